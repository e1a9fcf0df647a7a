// Package topics delivers what is published to the connections that subscribe to it: in the order
// of the log, each event once, and what a client missed before what is new. It knows a connection
// only as a Subscriber, and the log as a broker.Log.
//
// Locks are taken in the order subscriber, shard, log. A Subscriber is called without any lock of
// this package.
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

// Subscriber is a connection, as topics see it.
type Subscriber interface {
	// Deliver takes a frame that other subscribers may get too, and reports whether it has taken
	// it.
	Deliver(f *frame.Shared) bool

	// Replay takes what the subscriber missed, after everything that it has taken before.
	Replay(r *Replay)
}

// Topics delivers what is published. Subscribers are divided into shards. Each shard has a
// goroutine that follows the log and delivers to its subscribers: so every subscriber gets the
// records in the log's order, and all cores share the work. The methods of Topics are safe for
// concurrent use.
type Topics struct {
	engine  broker.Engine
	selects broker.Selective // the engine, if its log has only the topics that are followed; else nil
	shared  bool             // other nodes have the log too, so a client may have more of it than this node has read
	shards  []*shard
	refs    atomic.Uint64
	waiters sync.Map // Publication.Ref to *waiter
	tracer  Tracer   // nil: none
	stats   Stats
}

// Stats are counters of Topics.
type Stats struct {
	Resumes atomic.Uint64 // members whose client came with a position
	Gaps    atomic.Uint64 // that clients were given
}

// Stats returns the counters, for reading.
func (t *Topics) Stats() *Stats { return &t.stats }

// New makes the Topics of an engine's log. shared says that other nodes follow the log too. Nothing
// is delivered before Run.
func New(engine broker.Engine, shared bool) *Topics {
	t := &Topics{engine: engine, shared: shared, shards: make([]*shard, runtime.GOMAXPROCS(0))}
	t.selects, _ = engine.(broker.Selective)
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

// Tracer follows publications through their steps.
type Tracer interface {
	// Appending is called before a publication to these topics is appended to the log, done afterwards.
	Appending(ctx context.Context, topics []string) (done func(error))
	// Delivering is called when it was appended, done when this node has delivered it.
	Delivering(ctx context.Context) (done func(receivers int))
}

// Trace has a Tracer follow the publications of this node. It must be called before Run.
func (t *Topics) Trace(tracer Tracer) { t.tracer = tracer }

// Run delivers until ctx ends.
func (t *Topics) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, s := range t.shards {
		wg.Go(func() {
			defer guard.Recover()
			s.run(ctx)
		})
	}
	if t.selects != nil {
		wg.Go(func() {
			defer guard.Recover()
			broker.Every(ctx, pruneInterval, func() { t.selects.Prune(func(name string) bool { return t.Count(name) > 0 }) })
		})
	}
	wg.Wait()
	return nil
}

// Count returns how many subscribers a topic has.
func (t *Topics) Count(name string) int {
	n := 0
	for _, s := range t.shards {
		n += s.count(name)
	}
	return n
}

// Subscribers calls f with the subscribers of a topic, some at a time and in no order. A subscriber
// may come twice if others leave meanwhile. The slice is valid until f returns.
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

// Log returns the extent of the log.
func (t *Topics) Log() broker.Stats { return t.engine.Log().Stats() }

// Retained returns a part of the list of retained events, as [broker.Log.Retained] does.
func (t *Topics) Retained(topic string, after broker.RetainedCursor, limit, bytes int) (list []broker.Retained, next broker.RetainedCursor, more bool) {
	return t.engine.Log().Retained(topic, after, limit, bytes)
}

// ValidName reports whether a string can be a topic, or the key of a retained event: 1 to 256 bytes of UTF-8 without control
// characters.
func ValidName(s string) bool {
	if s == "" || len(s) > 256 {
		return false
	}
	_, err := sse.NewName(s) // the same rule, but for the length
	return err == nil
}
