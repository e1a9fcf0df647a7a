package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/bubble"
	"ssegateway/internal/gateway"
	"ssegateway/internal/topics"
)

// keeper is a backend that keeps its notices, and handles them late.
type keeper struct {
	backend
	requests *gateway.Requests
}

func (k *keeper) Disconnect(n gateway.Notice) {
	k.requests.Keep(n.Request)
	k.backend.Disconnect(n)
}

// The requests that are kept, for connections and for ends that the backend was not notified of
// yet, are bounded. Beyond the bound new connections are refused, which is counted, and logged
// now and then.
func TestRequestsBudget(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const most = 3
		var log bytes.Buffer
		k := &keeper{requests: gateway.NewRequests(most * int64(len(request)+256))}
		s := site{gateway.New(gateway.Config{
			Heartbeat: time.Hour, MaxConnections: 1000, QueueBytes: 1 << 20, BudgetBytes: 1 << 27, Requests: k.requests,
			Topics: topics.New(broker.NewMemory(1<<20, time.Hour), false), Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})),
		}, k), nil, nil, &k.backend}
		full := func() bool {
			c, _, err := s.gw.Connect(context.Background(), request)
			if err == nil {
				c.Abort(gateway.ClientClosed, 0)
				k.requests.Release(request) // the backend is notified at once
			} else if !errors.Is(err, gateway.ErrRequests) {
				t.Fatal(err)
			}
			return err != nil
		}
		var conns []*gateway.Conn
		for range most {
			conns = append(conns, s.connect(t))
		}
		for range 100 {
			if !full() {
				t.Fatal("a connection beyond the budget was accepted")
			}
		}
		conns[0].Abort(gateway.ClientClosed, 0)
		if !full() {
			t.Error("a connection was accepted before the backend was notified of an end")
		}
		k.requests.Release(request)
		if full() {
			t.Error("no room after the backend was notified")
		}
		if n := k.requests.Refused(); n != 101 {
			t.Errorf("%d connections counted as refused, want 101", n)
		}
		if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "a stream is turned away") {
			t.Errorf("the log has %q", text)
		}
		log.Reset()
		s.connect(t)
		full()
		time.Sleep(11 * time.Second) // fake clock
		synctest.Wait()
		if text := log.String(); strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "left_out=101\n") {
			t.Errorf("the log has %q", text)
		}
		if n := k.requests.Bytes(); n != most*int64(len(request)+256) {
			t.Errorf("%d bytes are kept", n)
		}
	})
}

// A connection whose end the backend is not notified of keeps no request.
func TestRequestsReleased(t *testing.T) {
	requests := gateway.NewRequests(1 << 20)
	s := newSite(func(cfg *gateway.Config) { cfg.Requests = requests })
	for _, outcome := range []gateway.Outcome{gateway.Refused, gateway.Unreachable, gateway.Unasked, gateway.TimedOut, gateway.Unanswered} {
		s.answer = func(context.Context) gateway.Answer { return gateway.Answer{Outcome: outcome} }
		if _, _, err := s.gw.Connect(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		if n := requests.Bytes(); n != 0 {
			t.Errorf("%d bytes are kept after outcome %d", n, outcome)
		}
	}
	s.gw.Drain(0, 0)
	_, _, _ = s.gw.Connect(t.Context(), request)
	s.expectNothingLeft(t)
}
