// Package gateway has the connections and their life, from the client's request until the backend
// has been notified of the end. It knows no HTTP, no broker and no metrics library; those are
// behind Stream and Backend.
//
// Locks are taken in the order gateway, connection; the locks of registry, wheel and backlog are
// innermost. A connection's lock is never held during I/O that can block, nor during a call to
// another package except to its Stream.
package gateway

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"ssegateway/internal/frame"
	"ssegateway/internal/guard"
	"ssegateway/internal/logging"
	"ssegateway/internal/outbox"
	"ssegateway/internal/topics"
	"ssegateway/sse"
)

// Config configures a Gateway.
type Config struct {
	Heartbeat      time.Duration  // between two heartbeats of a stream; at least a second
	MaxConnections int            // pending and open ones together
	MaxTails       int            // besides these
	QueueBytes     int64          // bound on what waits for one connection
	BudgetBytes    int64          // bound on what waits for all of them
	MaxTopics      int            // of a connection; 0: DefaultMaxTopics
	Requests       *Requests      // bound on what is kept of their requests; nil: none
	Addresses      Addresses      // bound on what one client's address has; nil: none
	Topics         *topics.Topics // that connections may have; the caller runs them
	Envelope       bool           // the form of events: see Form
	Clustered      bool           // it takes no connections before SetNumber
	Log            *slog.Logger
}

// Addresses bounds what one client's address has, which is the zero Addr where it is not known.
type Addresses interface {
	// Take counts a connection, or returns why there may be none.
	Take(client netip.Addr) error
	// Give uncounts a connection that Take has counted.
	Give(client netip.Addr)
}

// DefaultMaxTopics is how many topics a connection may have by default.
const DefaultMaxTopics = 10_000

// Stats are the gateway's counters. All but the gauges only grow.
type Stats struct {
	Pending, Open atomic.Int64 // gauges: connections by state
	Opened        atomic.Uint64
	Closed        [Error + 1]atomic.Uint64 // by Reason: ends of which the backend is notified
	Events        Counter                  // handed to clients' sockets
	Bytes         Counter                  // the same, framing and heartbeats included
	Heartbeats    Counter
	Dropped       atomic.Uint64 // events accepted for a connection that ended before they were written
}

// Turnover returns how many streams have opened and how many connections have ended so far.
func (s *Stats) Turnover() uint64 {
	n := s.Opened.Load()
	for i := range s.Closed {
		n += s.Closed[i].Load()
	}
	return n
}

// Gateway holds the connections. Its methods are safe for concurrent use.
type Gateway struct {
	cfg     Config
	backend Backend
	started time.Time

	conns    registry
	count    atomic.Int64 // of conns
	tails    atomic.Int64 // those of them that are tails; never less
	beats    *wheel
	budget   *outbox.Budget
	backlog  *backlog
	subjects *subjects
	replayer *replayer
	stats    Stats
	spare    func(client netip.Addr) bool // see SetSpare

	node     atomic.Uint64 // alone, nameless, or numbered plus the number
	draining atomic.Bool
	empty    chan struct{} // has a value when count fell to 0 while draining
	hurried  context.Context
	hurry    context.CancelFunc

	// connecting ends the connect callbacks that a drain cannot wait for.
	connecting context.Context
	giveUp     context.CancelFunc
}

// The states of the gateway's number in a cluster.
const (
	alone    uint64    = iota // not in a cluster: tokens are entirely random
	nameless                  // in a cluster, without a number: no token can be made
	numbered = 1 << 32        // in a cluster, with the number in the lower 32 bits
)

// New makes a gateway. Run has to be called for heartbeats, and to notice stalled clients.
func New(cfg Config, backend Backend) *Gateway {
	if cfg.MaxTopics == 0 {
		cfg.MaxTopics = DefaultMaxTopics
	}
	g := &Gateway{
		cfg: cfg, backend: backend, started: time.Now(),
		beats:    newWheel(cfg.Heartbeat),
		subjects: newSubjects(),
		replayer: newReplayer(),
		backlog:  newBacklog(),
		budget:   outbox.NewBudget(cfg.BudgetBytes, cfg.QueueBytes),
		empty:    make(chan struct{}, 1),
		spare:    noSpare,
	}
	if cfg.Clustered {
		g.node.Store(nameless)
	}
	if cfg.Requests == nil {
		g.cfg.Requests = NewRequests(0)
	}
	g.connecting, g.giveUp = context.WithCancel(context.Background())
	g.hurried, g.hurry = context.WithCancel(context.Background())
	return g
}

// Run does everything that depends on time, until ctx ends.
func (g *Gateway) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, run := range []func(context.Context){g.beats.run, g.backlog.run, g.relieve, g.replayer.run} {
		wg.Go(func() {
			defer guard.Recover()
			run(ctx)
		})
	}
	wg.Wait()
	return nil
}

// Stats returns the counters, for reading.
func (g *Gateway) Stats() *Stats { return &g.stats }

// QueuedBytes returns what waits for all connections, in bytes. A published event that waits for
// several connections counts once.
func (g *Gateway) QueuedBytes() int64 { return g.budget.Bytes() }

// Form returns an event in the form in which clients get it.
func (g *Gateway) Form(e sse.Event) sse.Event {
	if g.cfg.Envelope {
		return frame.Envelope(e)
	}
	return e
}

// MaxTopics returns how many topics a connection may have.
func (g *Gateway) MaxTopics() int { return g.cfg.MaxTopics }

// now returns a monotonic time.
func (g *Gateway) now() time.Duration { return time.Since(g.started) }

// Find returns the connection with this token, or nil. It may be closed.
func (g *Gateway) Find(t Token) *Conn { return g.conns.find(t) }

// Requests returns the bound on what is kept of requests.
func (g *Gateway) Requests() *Requests { return g.cfg.Requests }

// SetNumber sets the gateway's number in its cluster. All tokens made from now on have it.
func (g *Gateway) SetNumber(number uint32) { g.node.Store(numbered | uint64(number)) }

// Number returns the gateway's number in its cluster; 0: it has none.
func (g *Gateway) Number() uint32 {
	if node := g.node.Load(); node >= numbered {
		return uint32(node) //nolint:gosec // the lower half
	}
	return 0
}

// Abandon removes the gateway's number, because other nodes have reported that all its connections
// are gone. It closes them, and takes no more before SetNumber.
func (g *Gateway) Abandon() {
	g.node.Store(nameless)
	for _, c := range g.conns.all() {
		if c.IsRelayed() {
			continue // nobody else knew of it
		}
		c.dismiss(Error, GatewayLost)
	}
}

// Each calls f with every connection that the backend knows, in no order.
func (g *Gateway) Each(f func(token Token, request []byte)) {
	for _, c := range g.conns.all() {
		if !c.isTail() && !c.isForwarded() {
			f(c.token, c.request)
		}
	}
}

// releaseSlot decrements the count of connections. The last one ends a drain's wait.
func (g *Gateway) releaseSlot() {
	if g.count.Add(-1) == 0 && g.draining.Load() {
		select {
		case g.empty <- struct{}{}:
		default:
		}
	}
}

// log logs a line about a connection's life. It describes the connection only if the line is
// wanted.
func (g *Gateway) log(ctx context.Context, c *Conn, message string, attrs ...slog.Attr) {
	if !g.cfg.Log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	all := append([]slog.Attr{slog.String("token", c.token.String())}, attrs...)
	if g.cfg.Log.Enabled(ctx, slog.LevelDebug) { // whose lines may have personal data
		if client := ClientIP(c.request); client.IsValid() {
			all = append(all, slog.String("client_ip", client.String()))
		}
	}
	g.cfg.Log.LogAttrs(ctx, slog.LevelInfo, message, append(all, slog.String("path", logging.Cut(c.Path())))...)
}

// finish is the last step of a connection's life. It removes the connection, and has the backend
// notified if it accepted the connection or may have.
func (g *Gateway) finish(c *Conn) {
	g.conns.remove(c.token)
	if a := g.cfg.Addresses; a != nil && !c.isTail() && c.kind != forwarded {
		a.Give(ClientIP(c.request)) // so there is room when the backend is told
	}
	if c.needsDisconnect {
		g.stats.Closed[c.reason].Add(1)
		attrs := []slog.Attr{slog.String("reason", c.reason.String())}
		if c.detail != 0 {
			attrs = append(attrs, slog.String("detail", c.detail.String()))
		}
		g.log(context.Background(), c, "close", attrs...)
		g.backend.Disconnect(Notice{Token: c.token, Request: c.request, Reason: c.reason, Detail: c.detail})
	}
	g.cfg.Requests.Release(c.request) // the backend's Notice keeps it from now on, if there is one
	g.releaseSlot()
	if c.isTail() {
		g.tails.Add(-1)
	}
}
