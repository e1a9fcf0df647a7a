package connections

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ssegateway/internal/broker"
	"ssegateway/internal/bubble"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/gatewaytest"
	"ssegateway/internal/topics"
)

// client is a stream that takes everything, or, while it is full, nothing.
type client struct {
	mu       sync.Mutex
	full     bool
	left     bool
	received strings.Builder
}

func (c *client) Start() gateway.Detail      { return 0 }
func (c *client) Look(uint64) (uint64, bool) { return 1, false }
func (c *client) Close(bool)                 {}
func (c *client) Chunked() bool              { return false }

func (c *client) Left() (gateway.Reason, gateway.Detail) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left {
		return gateway.ClientClosed, 0
	}
	return 0, 0
}

func (c *client) Write(p []byte) (int, gateway.Detail) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.full {
		return 0, 0
	}
	c.received.Write(p)
	return len(p), 0
}

func (c *client) set(full, left bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.full, c.left = full, left
}

// times returns how often the client got an event with that data.
func (c *client) times(data string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Count(c.received.String(), "data: "+data+"\n\n")
}

// tester is a test, or one of rapid's.
type tester interface {
	rapid.TB
	Context() context.Context
}

// alone is a gateway alone.
type alone struct {
	*Own

	t      tester
	engine *broker.Memory
}

// within runs a test in a bubble.
func within(t *testing.T, f func(s *alone)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) { live(t, f) })
}

// live runs a test with a gateway that runs until its end.
func live(t tester, f func(s *alone)) {
	t.Helper()
	engine := broker.NewMemory(1<<20, time.Minute)
	all := topics.New(engine, false)
	gw := gateway.New(gateway.Config{
		Heartbeat: time.Hour, MaxConnections: 100, QueueBytes: 1000, BudgetBytes: 100_000, Topics: all, Log: slog.New(slog.DiscardHandler),
	}, gatewaytest.Accepting{})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{engine.Run, all.Run, gw.Run} {
		running.Go(func() { _ = run(ctx) })
	}
	defer running.Wait()
	defer cancel()
	f(&alone{NewOwn(gw, all, func() string { return "node-1" }, slog.New(slog.DiscardHandler)), t, engine})
}

// connect makes a pending connection. open opens it.
func (s *alone) connect() (conn *gateway.Conn, open func(g gateway.Grant) *client) {
	s.t.Helper()
	conn, _, err := s.gw.Connect(s.t.Context(), []byte(`{"url":"/","headers":{}}`))
	if err != nil {
		s.t.Fatal(err)
	}
	return conn, func(g gateway.Grant) *client {
		c := &client{}
		if !conn.Open(c, frame.Frame{}, g) {
			s.t.Fatal("not open")
		}
		return c
	}
}
