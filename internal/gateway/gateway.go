// Package gateway is the heart: connections and their life, from the client's
// request to the last word to the backend. It knows no HTTP, no broker and no
// metrics library; those are behind Stream and Backend.
//
// Locks are taken in the order gateway, connection, and the locks of registry,
// wheel and backlog are innermost. A connection's lock is never held during I/O
// that can block, nor during a call outward other than to its Stream.
package gateway

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
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

// Config is what a Gateway needs to know.
type Config struct {
	Heartbeat      time.Duration  // between two heartbeats of a stream; at least a second
	MaxConnections int            // pending and open ones together
	QueueBytes     int64          // bound of what waits for one connection
	BudgetBytes    int64          // bound of what waits for all of them
	MaxTopics      int            // of a connection; 0: DefaultMaxTopics
	Requests       *Requests      // bound of what is kept of their requests; nil: none
	Topics         *topics.Topics // that connections may have; they need a Run of their own
	Clustered      bool           // it has no number yet, and takes no connections before SetNumber
	Log            *slog.Logger
}

// DefaultMaxTopics is how many topics a connection may have where nothing else is said.
const DefaultMaxTopics = 10_000

// Stats are the gateway's counters. All but the gauges only grow.
type Stats struct {
	Pending, Open atomic.Int64 // gauges: connections by state
	Opened        atomic.Uint64
	Closed        [Error + 1]atomic.Uint64 // by Reason: each end that the backend is owed
	Events        Counter                  // handed to clients' sockets
	Bytes         Counter                  // the same, framing and heartbeats included
	Heartbeats    Counter
	Dropped       atomic.Uint64 // events accepted for a connection that ended before they were written
}

// Turnover is how many streams have opened and connections ended so far.
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
	beats    *wheel
	budget   *outbox.Budget
	backlog  *backlog
	subjects *subjects
	replayer *replayer
	stats    Stats

	node     atomic.Uint64 // alone, nameless, or numbered and the number
	draining atomic.Bool
	empty    chan struct{} // has a value when count fell to 0 while draining
	hurried  context.Context
	hurry    context.CancelFunc

	// connecting ends the connect callbacks that a drain cannot wait for.
	connecting context.Context
	giveUp     context.CancelFunc
}

// Errors of Connect.
var (
	ErrDraining = errors.New("the gateway is draining")
	ErrFull     = errors.New("too many connections")
	ErrRequests = errors.New("too many bytes of requests are kept")
	ErrNameless = errors.New("the gateway has no number in its cluster now")
)

// What a gateway is among others.
const (
	alone    uint64    = iota // there are none: tokens are random in full
	nameless                  // in a cluster, without a number: there can be no tokens
	numbered = 1 << 32        // in a cluster, with the number in the lower 32 bits
)

// New makes a gateway. It needs Run for heartbeats, and to notice stalled clients.
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

// Run does what time brings, until ctx ends.
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

// Stats are the counters, for reading.
func (g *Gateway) Stats() *Stats { return &g.stats }

// QueuedBytes is what waits for all connections, in bytes. A published event that waits
// for several counts once.
func (g *Gateway) QueuedBytes() int64 { return g.budget.Bytes() }

// MaxTopics is how many topics a connection may have.
func (g *Gateway) MaxTopics() int { return g.cfg.MaxTopics }

// Draining says that the gateway takes no new connections.
func (g *Gateway) Draining() bool { return g.draining.Load() }

// now is monotonic.
func (g *Gateway) now() time.Duration { return time.Since(g.started) }

// Find is the connection with this token, or nil. It may have closed.
func (g *Gateway) Find(t Token) *Conn { return g.conns.find(t) }

// Connect registers a pending connection and asks the backend about it. client
// ends when the client goes away. The connection returned, if the answer is
// Accepted, waits for Open, or for Leave if there will be no stream; any other
// answer has ended it.
func (g *Gateway) Connect(client context.Context, request []byte) (*Conn, Answer, error) {
	c, err := g.register(request)
	if err != nil {
		if errors.Is(err, ErrRequests) {
			g.sayRefused()
		}
		return nil, Answer{}, err
	}
	stop := context.AfterFunc(client, func() {
		defer guard.Recover()
		c.Abort(ClientClosed, 0)
	})
	defer stop()
	g.log(c, "connect")
	a := Answer{Outcome: Unanswered} // where asking panics
	defer func() { c.onAnswer(a) }()
	a = g.backend.Connect(g.connecting, client, c.token, request)
	if a.Outcome == Unasked && client.Err() != nil {
		g.log(c, "the client left before the backend was asked")
	}
	return c, a, nil
}

// sayRefused says that a connection is refused for the bound on requests.
func (g *Gateway) sayRefused() {
	r := g.cfg.Requests
	r.full.Log(g.cfg.Log, slog.LevelWarn, "a stream is turned away: too many bytes of requests are kept, of connections and of ends that the backend was not told of yet",
		slog.Int64("bytes", r.Bytes()), slog.Int64("limit", r.limit))
}

// Requests is the bound on what is kept of requests.
func (g *Gateway) Requests() *Requests { return g.cfg.Requests }

func (g *Gateway) register(request []byte) (*Conn, error) {
	if g.count.Add(1) > int64(g.cfg.MaxConnections) {
		g.releaseSlot()
		return nil, ErrFull
	}
	node := g.node.Load()
	if node == nameless {
		g.releaseSlot()
		return nil, ErrNameless
	}
	if !g.cfg.Requests.admit(request) {
		g.releaseSlot()
		return nil, ErrRequests
	}
	c := &Conn{gw: g, token: NewToken(), request: request, since: time.Now().Unix()}
	if node >= numbered {
		c.token = newNodeToken(uint32(node)) //nolint:gosec // the lower half
	}
	c.counterShard = c.token[shardByte]
	g.stats.Pending.Add(1)
	g.conns.add(c)
	// Only now: a drain, or the loss of the number, either sees the connection, or is seen here.
	err := error(nil)
	if g.draining.Load() {
		err = ErrDraining
	} else if g.node.Load() != node {
		err = ErrNameless
	}
	if err != nil {
		c.onAnswer(Answer{Outcome: Unreachable}) // the backend is not asked; it may be closed already
		return nil, err
	}
	return c, nil
}

// SetNumber names the gateway in its cluster: all tokens it makes from now on have
// the number.
func (g *Gateway) SetNumber(number uint32) { g.node.Store(numbered | uint64(number)) }

// Abandon takes the gateway's number away, because others have told the backend that
// all its connections are gone. It closes them, and takes no more before SetNumber.
func (g *Gateway) Abandon() {
	g.node.Store(nameless)
	for _, c := range g.conns.all() {
		c.dismiss(Error, GatewayLost)
	}
}

// Each calls f with every connection, in no order.
func (g *Gateway) Each(f func(token Token, request []byte)) {
	for _, c := range g.conns.all() {
		f(c.token, c.request)
	}
}

// releaseSlot takes one connection off the count. The last one ends a drain's wait.
func (g *Gateway) releaseSlot() {
	if g.count.Add(-1) == 0 && g.draining.Load() {
		select {
		case g.empty <- struct{}{}:
		default:
		}
	}
}

// log writes a line of a connection's life. What it says of the connection is not
// put together where nobody wants it.
func (g *Gateway) log(c *Conn, message string, attrs ...slog.Attr) {
	ctx := context.Background()
	if !g.cfg.Log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	all := append([]slog.Attr{slog.String("token", c.token.String())}, attrs...)
	g.cfg.Log.LogAttrs(ctx, slog.LevelInfo, message, append(all, slog.String("path", logging.Cut(c.Path())))...)
}

// finish is the last step of a connection's life. It removes the connection, and has the
// backend notified if that accepted it, or may have.
func (g *Gateway) finish(c *Conn) {
	g.conns.remove(c.token)
	if c.needsDisconnect {
		g.stats.Closed[c.reason].Add(1)
		attrs := []slog.Attr{slog.String("reason", c.reason.String())}
		if c.detail != 0 {
			attrs = append(attrs, slog.String("detail", c.detail.String()))
		}
		g.log(c, "close", attrs...)
		g.backend.Disconnect(Notice{Token: c.token, Request: c.request, Reason: c.reason, Detail: c.detail})
	}
	g.cfg.Requests.Release(c.request) // by now the backend keeps it itself, if it is to
	g.releaseSlot()
}

const (
	// A browser that is told to come back does so at random in this range, in
	// milliseconds: clients of one gateway must not arrive at the next all at once.
	minRetry, maxRetry = 1000, 5000
)

// RetryBlock asks a client to come back at a random time.
func RetryBlock() []byte {
	ms := minRetry + rand.Uint64N(maxRetry-minRetry) //nolint:gosec // jitter, not a secret
	return sse.AppendRetry(nil, sse.RetryMillis(ms))
}

// Hurry ends the window of a drain, of one that is still to come, too.
func (g *Gateway) Hurry() { g.hurry() }

// Drain closes every connection, spread evenly over window but for a rest at its end, and
// returns when all have ended and the rest is over. What has not ended when then grace is
// over is cut.
//
// In the rest clients that come back here are still turned away. Those are one in n where
// a proxy has n gateways; if this one ended with its last close, all of them would arrive
// at the others beside those closed last.
func (g *Gateway) Drain(window, grace time.Duration) {
	g.draining.Store(true)
	conns := g.conns.all()
	start := time.Now()
	rest := min(maxRetry*time.Millisecond, window/2)
	var last time.Time // of the closes
	for i, c := range conns {
		due := start.Add(share(window-rest, i, len(conns)))
		for time.Now().Before(due) && g.count.Load() > 0 && g.hurried.Err() == nil {
			select {
			case <-time.After(time.Until(due)):
			case <-g.empty: // they all left by themselves
			case <-g.hurried.Done():
			}
		}
		apart(func() {
			if c.dismiss(ServerClosed, Draining) {
				last = time.Now()
			}
		})
	}
	g.await(max(0, time.Until(last.Add(rest))), grace)
}

// apart calls f, whose panic is told of and ends nothing else: what ended another part may be
// met here again, at one connection, and the others are still to be told.
func apart(f func()) {
	defer guard.Recover()
	f()
}

// share is the part of d that is over when i of n are done. The product of d and i may be
// more than a Duration holds: an hour and three million connections.
func share(d time.Duration, i, n int) time.Duration {
	whole, part := d/time.Duration(n), d%time.Duration(n)
	return whole*time.Duration(i) + part*time.Duration(i)/time.Duration(n)
}

// await returns when all connections have ended and rest is over. It cuts what has not
// ended grace after that.
func (g *Gateway) await(rest, grace time.Duration) {
	// The backend's answers to pending connects may take as long as half of what
	// is left; then it is told that they ended.
	rested := time.NewTimer(rest)
	halfTime := time.AfterFunc(rest+grace/2, g.giveUp)
	cut := time.NewTimer(rest + grace)
	defer rested.Stop()
	defer halfTime.Stop()
	defer cut.Stop()
	hurried := g.hurried.Done()
	for resting := true; resting || g.count.Load() > 0; {
		select {
		case <-rested.C:
			resting = false
		case <-hurried:
			hurried, resting = nil, false
			halfTime.Reset(grace / 2)
			cut.Reset(grace)
		case <-g.empty:
		case <-cut.C:
			g.giveUp()
			for _, c := range g.conns.all() {
				apart(func() { c.Abort(Error, Stalled) })
			}
			return
		}
	}
}

// dismiss closes the connection and asks its client to come back, by another node
// perhaps. It answers false for one that has no client any more, or not yet.
func (c *Conn) dismiss(r Reason, d Detail) bool {
	c.mu.Lock()
	defer c.unlock()
	open := c.state == Open
	if open {
		c.appendLocked(outbox.Item{Frame: frame.Block(RetryBlock())}) // no queue is too full for it
	}
	if c.state != Closed {
		c.closeLocked(r, d)
	}
	return open
}
