package router

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/bubble"
	"ssegateway/internal/cluster"
	"ssegateway/internal/connections"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/gatewaytest"
	"ssegateway/internal/logging/loggingtest"
	"ssegateway/internal/topics"
	"ssegateway/sse"
)

// network connects the nodes of a test. Its fields may change between requests.
type network struct {
	nodes  map[uint32]*node
	frozen map[uint32]bool // take messages, and do not answer
	limit  int             // of messages and answers, in bytes
	asked  []string        // the requests
	mu     sync.Mutex      // guards asked
}

// node is a node of a network.
type node struct {
	*Router

	network *network
	number  uint32
	version int // that its key says
	gw      *gateway.Gateway
	log     loggingtest.Buffer
}

func (n *node) Name() string { return fmt.Sprint("node-", n.number) }

func (n *node) Peers() (peers []cluster.Peer) {
	for number, other := range n.network.nodes {
		if number != n.number {
			peers = append(peers, cluster.Peer{Number: number, Name: other.Name(), Version: other.version})
		}
	}
	slices.SortFunc(peers, func(a, b cluster.Peer) int { return int(a.Number) - int(b.Number) })
	return peers
}

func (n *node) Made(token gateway.Token) bool { return token.Node() == n.number }

func (n *node) MaxMessage() int { return n.network.limit }

func (n *node) Ask(ctx context.Context, token gateway.Token, message func(version int) ([]byte, error)) ([]byte, error) {
	other := n.network.nodes[token.Node()]
	if other == nil || other == n {
		return nil, cluster.ErrGone
	}
	question, err := message(other.version)
	if err != nil {
		return nil, err
	}
	return n.AskPeer(ctx, cluster.Peer{Number: other.number}, question)
}

func (n *node) AskPeer(ctx context.Context, p cluster.Peer, message []byte) ([]byte, error) {
	net := n.network
	net.mu.Lock()
	net.asked = append(net.asked, string(message))
	net.mu.Unlock()
	if len(message) > net.limit {
		return nil, cluster.ErrTooLarge
	}
	if !net.frozen[p.Number] {
		if answer := net.nodes[p.Number].Answer(ctx, message); len(answer) <= net.limit {
			return answer, nil
		}
	}
	<-ctx.Done()
	return nil, fmt.Errorf("%w: %w", cluster.ErrUnreachable, ctx.Err())
}

// client is a stream that takes everything.
type client struct {
	mu       sync.Mutex
	received strings.Builder
}

func (c *client) Start() gateway.Detail                  { return 0 }
func (c *client) Left() (gateway.Reason, gateway.Detail) { return 0, 0 }
func (c *client) Look(uint64) (uint64, bool)             { return 1, false }
func (c *client) Close(bool)                             {}
func (c *client) Chunked() bool                          { return false }

func (c *client) Write(p []byte) (int, gateway.Detail) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if string(p) != sse.Heartbeat {
		c.received.Write(p)
	}
	return len(p), 0
}

func (c *client) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.received.String()
}

// among runs a test of n nodes, numbered from 1, in a bubble. They share a log.
func among(t *testing.T, n int, f func(t *testing.T, net *network)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		engine := broker.NewMemory(1<<20, time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = engine.Run(ctx) })
		net := &network{nodes: map[uint32]*node{}, frozen: map[uint32]bool{}, limit: 1 << 20}
		for i := range n {
			node := &node{network: net, number: uint32(i + 1), version: Version}
			log := slog.New(slog.NewTextHandler(&node.log, nil))
			all := topics.New(engine, true)
			node.gw = gateway.New(gateway.Config{
				Heartbeat: time.Hour, MaxConnections: 5000, QueueBytes: 10_000, BudgetBytes: 10_000_000,
				Topics: all, Clustered: true, Log: slog.New(slog.DiscardHandler),
			}, gatewaytest.Accepting{})
			node.gw.SetNumber(node.number)
			node.Router = New(connections.NewOwn(node.gw, all, node.Name, log), node, log)
			net.nodes[node.number] = node
			running.Go(func() { _ = all.Run(ctx) })
			running.Go(func() { _ = node.gw.Run(ctx) })
		}
		f(t, net)
		cancel()
		running.Wait()
		time.Sleep(2 * time.Minute) // fake clock: what is forgotten after a time is forgotten
		synctest.Wait()
	})
}

// open opens a stream of a path at a node.
func (n *node) open(t *testing.T, path string, g gateway.Grant) (gateway.Token, *client) {
	t.Helper()
	conn, _, err := n.gw.Connect(t.Context(), fmt.Appendf(nil, `{"url":%s,"headers":{}}`, encodeJSON(path)))
	c := &client{}
	if err != nil || !conn.Open(c, frame.Frame{}, g) {
		t.Fatal("not open", err)
	}
	return conn.Token(), c
}

func data(text string) sse.Event { return sse.Event{Data: text} }
