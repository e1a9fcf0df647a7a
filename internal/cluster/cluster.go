// Package cluster makes a gateway one of several nodes: it holds a number by a lease,
// knows the other nodes, keeps outside of itself what it holds, tells the backend of
// what a dead node held, and asks the owner of a token. It knows no HTTP and no
// broker's driver; those are behind Teller and broker.Nodes.
package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
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

// Config is what a Node needs to know.
type Config struct {
	Name  string        // of the machine, for people
	Lease time.Duration // how long a silent node counts as alive
	// Version is that of the messages which the node understands best. Others learn it from
	// the node's key.
	Version int
	// Backends are digests of the backend that is told, and of one whose place it takes. Nodes
	// that have none in common are not one cluster. None: goes with all.
	Backends []string
	// HeldBytes bounds what is kept of connections while it cannot be written to the store.
	HeldBytes int64
	// Open opens the store of the nodes, and makes it if there is none.
	Open func(context.Context) (broker.Nodes, error)
	Log  *slog.Logger
}

// Gateway is what a node needs of the gateway.
type Gateway interface {
	// SetNumber lets the gateway take connections, with tokens of that number.
	SetNumber(number uint32)
	// Abandon closes all connections and takes no more.
	Abandon()
	// Each calls f with every connection.
	Each(f func(token gateway.Token, request []byte))
}

// Teller tells the backend. It asks Permit before each attempt of a disconnect, and
// says with Settled when it is done with one.
type Teller interface {
	gateway.Backend
	// Resume goes on with what Permit has deferred.
	Resume()
}

const (
	// openPause is how long to wait before the store is tried again, with as much again
	// at random: nodes do not come back all at once.
	openPause = 500 * time.Millisecond
	// traceAge is how long a removed key or a told record can be told from one that
	// never was.
	traceAge = time.Hour
)

// Stats are counters and gauges of a node.
type Stats struct {
	Reaped   atomic.Uint64 // connections of dead nodes whose end was told
	Relayed  atomic.Uint64 // requests that other nodes answered
	Unknown  atomic.Uint64 // requests to other nodes without an answer
	Answered atomic.Uint64 // requests of other nodes
	Refused  atomic.Uint64 // connections that were not taken, since too much is held
}

// Node is this gateway among the others. Its methods are safe for concurrent use.
type Node struct {
	cfg      Config
	instance string // unlike that of any other Node, so that its own writes are known again
	started  time.Time
	draw     func() uint32 // a number that is probably nobody's
	teller   Teller        // nil: nobody to tell
	gw       Gateway
	answer   func(ctx context.Context, message []byte) []byte
	ledger   ledger
	stats    Stats
	garbled  *logging.Throttle
	refusing *logging.Throttle // streams
	doubt    *logging.Throttle // renewals that fail
	unopened *logging.Throttle // stores
	anew     *logging.Throttle // stores that were made anew

	differing *logging.Throttle

	admitting chan struct{} // has a value when the node may be admitted
	judging   chan struct{} // has a value when there may be something to judge
	disputes  chan struct{} // has a value when there may be something in disputed
	leaving   chan leave

	mu       sync.Mutex
	store    broker.Nodes // nil: not open
	number   uint32       // 0: none
	revision uint64       // of the number's key, as far as it is known
	claimed  bool         // the key was acknowledged: the number is ours until others take it
	certain  time.Time    // until then the lease holds for certain
	keys     map[uint32]key
	contact  time.Time                // since when own renewals come by without a break
	ownSeen  time.Time                // the last of them
	ownFrom  uint64                   // its revision
	informed bool                     // one has come by, at any time
	adopted  map[gateway.Token]func() // connections of other numbers that are ours to tell; called when that is done
	orphaned map[gateway.Token]uint32 // adopted under a number that was lost, and whose records may be gone with an earlier store
	disputed []dispute
	late     map[gateway.Token]struct{} // the backend was asked when others may have told already
	outlived map[uint32]struct{}        // numbers of this node's under which a store was lost: records that it wrote may be gone
	taking   int                        // connections that are being taken over
	retired  bool                       // no more are
	taken    chan struct{}              // closed when retired and the last has been
	slots    chan struct{}              // one for each connection of a dead node that is being told
	session  context.Context
	end      context.CancelFunc // of session, which is the time with one number
	silence  func()             // stops answering other nodes
	admitted bool               // the gateway takes connections, as soon as there is a number
	differs  string             // a node that tells another backend; empty: none
	rewatch  context.CancelFunc // lets the watch begin anew
	watched  time.Time          // when it began
}

// key is a node's key as it was seen last.
type key struct {
	value

	revision uint64
	seen     time.Time
	alive    time.Time // when this node last saw it live, or, if never, saw it at all; zero: it gave its lease up
}

// New makes a Node; Backend, Serve and then Run make it work.
func New(cfg Config) *Node {
	n := &Node{
		cfg: cfg, instance: rand.Text(), started: time.Now(), draw: draw, differing: logging.Every(differsEvery), garbled: logging.Every(logEvery),
		refusing: logging.Every(logEvery), doubt: logging.Every(logEvery), unopened: logging.Every(logEvery), anew: logging.Every(logEvery),
		admitting: make(chan struct{}, 1), judging: make(chan struct{}, 1), disputes: make(chan struct{}, 1), leaving: make(chan leave), taken: make(chan struct{}),
		keys: map[uint32]key{}, adopted: map[gateway.Token]func(){}, orphaned: map[gateway.Token]uint32{}, late: map[gateway.Token]struct{}{}, outlived: map[uint32]struct{}{}, slots: make(chan struct{}, reapAtOnce),
	}
	n.session, n.end = context.WithCancel(context.Background())
	n.ledger.init(n.lease, n.Full, func() {
		if n.teller != nil {
			n.teller.Resume()
		}
	})
	return n
}

// Serve says who answers what other nodes ask.
func (n *Node) Serve(answer func(ctx context.Context, message []byte) []byte) {
	n.answer = func(ctx context.Context, message []byte) []byte {
		n.stats.Answered.Add(1)
		return answer(ctx, message)
	}
}

// Stats are the counters, for reading.
func (n *Node) Stats() *Stats { return &n.stats }

// Name is how the node is named to people, in answers and in the log.
func (n *Node) Name() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return nameOf(n.cfg.Name, n.number)
}

// Named says that the node has a number, and knows the others, none of which tells another
// backend: it has seen its own key come by, and so all that were there before.
func (n *Node) Named() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.claimed && n.informed && n.admitted
}

// Count tells how many other nodes are alive, and how many are lost and not yet told of.
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

// Holds says that the node's lease holds for certain.
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

// Backlog is how many records have not been written or removed yet, as they should be.
func (n *Node) Backlog() int { return n.ledger.size() }

// Held is about how many bytes those records take that are not written or removed yet.
func (n *Node) Held() int64 { return n.ledger.bytes.Load() }

// Refuses says that no connection is to be taken now, and counts it: the store has been
// away for so long that what it has yet to be told of takes all the room there is for it,
// or the store is full itself.
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

// logEvery is how often one line is logged that others, or an outage, can have logged as
// often as they like.
const logEvery = 10 * time.Second

// Run is part of the cluster until ctx ends.
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

// serve works with a store until ctx ends or it is lost.
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

// attach begins with a store. A number is taken there as well, and what the gateway
// holds is recorded anew. The other nodes are known still, though the store does not know
// them yet: a node that is away when a store is lost is not gone for that.
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
	n.mu.Unlock()
	if claimed {
		n.anew.Log(n.cfg.Log, slog.LevelWarn, "the store of the nodes was made anew, or is an earlier one: what this node holds is recorded again",
			slog.String("node", nameOf(n.cfg.Name, number)))
		n.gw.Each(func(token gateway.Token, request []byte) {
			if token.Node() == number {
				n.ledger.add(token, &operation{node: number, request: request, sent: true})
			}
		})
	}
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

// signal gives a channel with room for one value that value, if it has none.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// draw is a random number that is not 0.
func draw() uint32 {
	n, err := rand.Int(rand.Reader, big.NewInt(1<<32-1))
	if err != nil {
		panic(err) // the system has no randomness left to give
	}
	return uint32(n.Uint64()) + 1 //nolint:gosec // below 2^32
}

var errNumberTaken = errors.New("the number is another node's")
