// Package cluster makes a gateway one of several nodes. A node holds a number by a lease and knows
// the other nodes. It keeps a record of each of its connections in the store, reports to the
// backend the ends of what a dead node held, and asks other nodes about their connections. It knows
// no HTTP and no broker's driver; those are behind Teller and broker.Nodes.
package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"math/big"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
	"ssegateway/internal/logging"
)

// Config configures a Node.
type Config struct {
	Name  string        // of the machine, for people
	Lease time.Duration // how long a silent node counts as alive
	// Version is the newest version of messages that the node understands. Others read it in the
	// node's key.
	Version int
	// Backends are digests of the backend to which ends are reported, and of the one that it
	// replaces. Nodes that have none in common are not one cluster. An empty list matches every
	// other.
	Backends []string
	// HeldBytes bounds what is kept in memory of connections that cannot be written to the store.
	HeldBytes int64
	// Batch is how many ends the Teller reports in one callback; up to 1: each has its own.
	Batch int
	// Open opens the store of the nodes, and creates it if there is none.
	Open func(context.Context) (broker.Nodes, error)
	Log  *slog.Logger
}

// Gateway is what a node needs from the gateway.
type Gateway interface {
	// SetNumber lets the gateway take connections, with tokens of that number.
	SetNumber(number uint32)
	// Abandon closes all connections and takes no more.
	Abandon()
	// Each calls f with every connection.
	Each(f func(token gateway.Token, request []byte))
}

// Teller reports to the backend. It asks Permit before each attempt of a disconnect, and calls
// OnFinished when it is done with one.
type Teller interface {
	gateway.Backend
	// Resume retries what Permit has deferred.
	Resume()
}

const (
	// openPause is the least time between two tries to open the store. Up to as much again is added
	// at random, so that nodes do not come back all at once.
	openPause = 500 * time.Millisecond
	// traceAge is how long a removed key, or a record that was taken over, leaves a trace.
	traceAge = time.Hour
)

// Stats are counters and gauges of a node.
type Stats struct {
	Reaped   atomic.Uint64 // connections of dead nodes whose end was reported
	Relayed  atomic.Uint64 // requests that other nodes answered
	Unknown  atomic.Uint64 // requests to other nodes without an answer
	Answered atomic.Uint64 // requests of other nodes
	Refused  atomic.Uint64 // connections that were refused, since too much is held
	Unkept   atomic.Uint64 // ends that other nodes are to report, and that were not kept, since too much is held
}

// Node is this gateway among the others. Its methods are safe for concurrent use.
type Node struct {
	cfg      Config
	instance string // unique, so that the node recognises its own writes
	started  time.Time
	draw     func() uint32 // returns a number that is probably free
	teller   Teller        // nil: nothing is reported
	gw       Gateway
	answer   func(ctx context.Context, message []byte) []byte
	ledger   ledger
	stats    Stats
	garbled  *logging.Throttle
	refusing *logging.Throttle // streams
	doubt    *logging.Throttle // renewals that fail
	unopened *logging.Throttle // stores
	unkept   *logging.Throttle // ends that others are to report
	anew     *logging.Throttle // stores that were made anew

	differing *logging.Throttle

	handedBytes atomic.Int64 // the costs in handed; written under mu

	admitting chan struct{} // has a value when the node may be admitted
	judging   chan struct{} // has a value when a node may have become silent
	disputes  chan struct{} // has a value when disputed may have an element
	leaving   chan leave

	mu       sync.Mutex
	store    broker.Nodes // nil: not open
	number   uint32       // 0: none
	revision uint64       // of the number's key, as this node knows it
	claimed  bool         // the key was acknowledged: the number is this node's until others take it
	certain  time.Time    // until when the lease holds for certain
	keys     map[uint32]key
	contact  time.Time                  // since when the watch has seen own renewals without a break
	ownSeen  time.Time                  // when the last of them was seen
	ownFrom  uint64                     // its revision
	informed bool                       // an own renewal was seen at any time
	adopted  map[gateway.Token]adoption // connections of other numbers whose end this node reports
	underWay map[gateway.Token]struct{} // they are being taken over
	unsure   map[record]struct{}        // they may have been taken over in the name of number, without an answer
	orphaned map[gateway.Token]uint32   // adopted under a number that was lost
	handed   map[uint32][]dispute       // by the number that was lost: what others report; until its key is gone, or the store is lost
	disputed []dispute
	late     map[gateway.Token]struct{} // the backend was asked when others may have reported the end already
	outlived map[uint32]struct{}        // numbers that this node had when a store was lost: the records that it wrote may be gone
	taking   int                        // connections that are being taken over
	retired  bool                       // nothing is taken over any more
	taken    chan struct{}              // closed when the node is retired and taking is 0
	slots    chan struct{}              // one for each connection of a dead node whose end is being reported
	session  context.Context
	end      context.CancelFunc // ends session, which is the time with one number
	silence  func()             // stops answering other nodes
	admitted bool               // the gateway takes connections, as soon as there is a number
	differs  string             // a node that reports to another backend; empty: none
	rewatch  context.CancelFunc // restarts the watch
	watched  time.Time          // when the watch began
}

// key is a node's key as it was seen last.
type key struct {
	value

	revision uint64
	seen     time.Time
	alive    time.Time // when this node last saw it live, or first saw it; zero: it gave up its lease
}

// New makes a Node; Backend, Serve and then Run make it work.
func New(cfg Config) *Node {
	n := &Node{
		cfg: cfg, instance: rand.Text(), started: time.Now(), draw: draw, differing: logging.Every(differsEvery), garbled: logging.Every(logEvery),
		refusing: logging.Every(logEvery), doubt: logging.Every(logEvery), unopened: logging.Every(logEvery), unkept: logging.Every(logEvery), anew: logging.Every(logEvery),
		admitting: make(chan struct{}, 1), judging: make(chan struct{}, 1), disputes: make(chan struct{}, 1), leaving: make(chan leave), taken: make(chan struct{}),
		keys: map[uint32]key{}, adopted: map[gateway.Token]adoption{}, underWay: map[gateway.Token]struct{}{}, unsure: map[record]struct{}{}, orphaned: map[gateway.Token]uint32{}, handed: map[uint32][]dispute{}, late: map[gateway.Token]struct{}{}, outlived: map[uint32]struct{}{}, slots: newSlots(cfg),
	}
	n.session, n.end = context.WithCancel(context.Background())
	n.ledger.init(n.lease, n.Full, func() {
		if n.teller != nil {
			n.teller.Resume()
		}
	})
	return n
}

// Serve sets the function that answers the requests of other nodes.
func (n *Node) Serve(answer func(ctx context.Context, message []byte) []byte) {
	n.answer = func(ctx context.Context, message []byte) []byte {
		n.stats.Answered.Add(1)
		return answer(ctx, message)
	}
}

// Stats returns the counters, for reading.
func (n *Node) Stats() *Stats { return &n.stats }

// Name returns the node's name for people, as in answers and in the log.
func (n *Node) Name() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return nameOf(n.cfg.Name, n.number)
}

// Named reports whether the node has a number, knows the others, and none of them reports to
// another backend. It knows the others once it has seen its own key, because their keys come before
// it.
func (n *Node) Named() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.claimed && n.informed && n.admitted
}

// Count returns how many other nodes are alive, and how many are lost and not yet taken over.
func (n *Node) Count() (alive, dead int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for number, k := range n.keys {
		switch {
		case number == n.number:
		case k.State == live:
			alive++
		case k.State == lost:
			dead++
		}
	}
	return alive, dead
}

// Holds reports whether the node's lease holds for certain.
func (n *Node) Holds() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.holdsLocked()
}

func (n *Node) lease(node uint32) (own, certain bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	own = n.claimed && node == n.number
	return own, own && n.holdsLocked()
}

func (n *Node) holdsLocked() bool { return n.claimed && time.Now().Before(n.certain) }

// Backlog returns how many records are still to be written or removed.
func (n *Node) Backlog() int { return n.ledger.size() }

// Held returns about how many bytes those records take in memory, and the ends that other nodes are to report.
func (n *Node) Held() int64 { return n.ledger.bytes.Load() + n.handedBytes.Load() }

// Refuses reports whether the node accepts no connections now, and counts the refusal. It accepts
// none while the store is full, or while the records that wait for a store that is away take all
// the memory there is for them.
func (n *Node) Refuses() bool {
	if n.Full() {
		n.refuse("the broker's storage is full")
		return true
	}
	held := n.Held()
	if held < n.cfg.HeldBytes {
		return false
	}
	n.refuse("too much waits to be recorded")
	return true
}

// logEvery is the least time between two lines of a kind that others, or an outage, could cause at
// any rate.
const logEvery = 10 * time.Second

// Run takes part in the cluster until ctx ends.
func (n *Node) Run(ctx context.Context, gw Gateway) error {
	n.gw = gw
	defer n.stopSession()
	for warned := false; ctx.Err() == nil; pause(ctx, openPause) {
		store, err := n.cfg.Open(ctx)
		if err != nil {
			if !warned && ctx.Err() == nil {
				n.unopened.Log(n.cfg.Log, slog.LevelWarn, "the store of the nodes cannot be opened", slog.String("error", err.Error()))
				warned = true
			}
			continue
		}
		warned = false
		n.serve(ctx, store)
	}
	return nil
}

// stopSession ends what a session has started.
func (n *Node) stopSession() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.end()
	if n.silence != nil {
		n.silence()
		n.silence = nil
	}
	n.store = nil
}

// serve uses a store until ctx ends or the store is lost.
func (n *Node) serve(ctx context.Context, store broker.Nodes) {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	n.attach(store)
	group.Go(func() {
		defer guard.Recover()
		defer cancel()
		n.watch(ctx, store)
	})
	for _, run := range []func(context.Context, broker.Nodes){n.ledger.run, n.markExpired, n.reapAll, n.resolveDisputes, n.reserve} {
		group.Go(func() {
			defer guard.Recover()
			run(ctx, store)
		})
	}
	n.renewLoop(ctx, store)
}

// attach begins to use a store. The node claims its number there too, and records again what the
// gateway holds. It still knows the other nodes, although the store does not have them yet: a node
// that is away when a store is lost may be alive.
func (n *Node) attach(store broker.Nodes) {
	n.mu.Lock()
	n.store = store
	n.revision, n.certain = 0, time.Time{}
	delete(n.keys, n.number)
	for number, k := range n.keys {
		k.revision = 0
		n.keys[number] = k
	}
	n.contact, n.ownSeen, n.ownFrom = time.Time{}, time.Time{}, 0
	if n.silence != nil {
		n.silence()
		n.silence = nil
	}
	number, claimed := n.number, n.claimed
	if claimed {
		n.outlived[number] = struct{}{}
	}
	for number := range n.handed { // nobody finds the records any more
		n.outlived[number] = struct{}{}
		n.disputed = append(n.disputed, n.takeBackLocked(number)...)
	}
	adopted := maps.Clone(n.adopted)
	n.mu.Unlock()
	signal(n.disputes)
	if claimed {
		n.anew.Log(n.cfg.Log, slog.LevelWarn, "the store of the nodes was made anew, or is an earlier one: what this node holds is recorded again",
			slog.String("node", nameOf(n.cfg.Name, number)))
		n.gw.Each(func(token gateway.Token, request []byte) {
			if token.Node() == number {
				n.ledger.add(token, &operation{node: number, request: request, sent: true})
			}
		})
		for token, a := range adopted {
			n.ledger.add(token, &operation{node: number, request: a.request, sent: true})
			if !n.reports(token) { // its end was reported just now
				n.ledger.release(number, token, nil)
			}
		}
	}
}

// reports reports whether this node reports the end of a connection of another number.
func (n *Node) reports(token gateway.Token) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, adopted := n.adopted[token]
	return adopted
}

// pause waits for d and up to as much again, at random.
func pause(ctx context.Context, d time.Duration) {
	wait(ctx, d+mathrand.N(d)) //nolint:gosec // to spread, not to hide
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// signal sends a value to a channel with room for one, unless it has one already.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// draw returns a random number that is not 0.
func draw() uint32 {
	n, err := rand.Int(rand.Reader, big.NewInt(1<<32-1))
	if err != nil {
		panic(err) // the system has no randomness left to give
	}
	return uint32(n.Uint64()) + 1 //nolint:gosec // below 2^32
}

var errNumberTaken = errors.New("the number is another node's")
