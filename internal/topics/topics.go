// Package topics brings what is published to the connections that want it: in the order of
// the log, each event once, and what a client missed before what is new. It knows a
// connection as a Subscriber, and the log as broker's.
//
// Locks are taken in the order subscriber, shard, log. A Subscriber is called without any
// lock of this package.
package topics

import (
	"context"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"

	"ssegateway/internal/broker"
	"ssegateway/internal/frame"
	"ssegateway/internal/guard"
	"ssegateway/sse"
)

// Subscriber is a connection, as far as topics are concerned.
type Subscriber interface {
	// Deliver takes a frame that others may get as well, and says whether it has done so.
	Deliver(f *frame.Shared) bool

	// Replay takes what it missed, behind all that it has taken before.
	Replay(r *Replay)
}

// Topics delivers what is published. Subscribers are divided into shards, each with a
// goroutine that follows the log and delivers to the shard's subscribers: so every one
// gets the records in the log's order, and all cores share the work. Its methods are safe
// for concurrent use.
type Topics struct {
	engine  broker.Engine
	shared  bool // with other nodes, from which a client may have more than this one has read
	shards  []*shard
	refs    atomic.Uint64
	waiters sync.Map // Publication.Ref to *waiter
}

// New makes the topics of what an engine's log holds. shared says that other nodes follow
// the log too. It delivers nothing before Run.
func New(engine broker.Engine, shared bool) *Topics {
	t := &Topics{engine: engine, shared: shared, shards: make([]*shard, runtime.GOMAXPROCS(0))}
	t.refs.Store(rand.Uint64()) //nolint:gosec // unlike other nodes', not secret
	for i := range t.shards {
		s := &shard{topics: t, index: map[string]*topic{}}
		for s.tailer == nil { // the log may be replaced at any moment
			s.log = engine.Log()
			s.tailer, s.position = s.log.Tail()
		}
		t.shards[i] = s
	}
	return t
}

// Run delivers until ctx ends.
func (t *Topics) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, s := range t.shards {
		wg.Go(func() {
			defer guard.Recover()
			s.run(ctx)
		})
	}
	wg.Wait()
	return nil
}

// Count is how many subscribers a topic has.
func (t *Topics) Count(name string) int {
	n := 0
	for _, s := range t.shards {
		n += s.count(name)
	}
	return n
}

// Subscribers calls f with the subscribers of a topic, some at a time and in no order. One may
// come twice if others leave meanwhile. The slice is f's until it returns.
func (t *Topics) Subscribers(name string, f func(some []Subscriber)) {
	some := make([]Subscriber, 0, piece)
	for _, s := range t.shards {
		for end := math.MaxInt; end > 0; {
			if some, end = s.subscribers(some[:0], name, end); len(some) > 0 {
				f(some)
			}
		}
	}
}

// Log tells the extent of the log.
func (t *Topics) Log() broker.Stats { return t.engine.Log().Stats() }

// ValidName says whether a string can be a topic: 1 to 256 bytes of UTF-8 without
// control characters.
func ValidName(s string) bool {
	if s == "" || len(s) > 256 {
		return false
	}
	_, err := sse.NewName(s) // the same rule, but for the length
	return err == nil
}
