package nats

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/nats-io/nats.go"

	"ssegateway/internal/broker"
)

// Selective is an Engine that reads the events of a single topic only where the topic is followed. What has several
// topics or none, what is retained, and what nodes without this write, it reads as every node does. NATS chooses: an event that no client of
// this node gets does not come here.
type Selective struct{ *Engine }

var _ broker.Selective = Selective{}

// NewSelective makes a Selective on a connection, which must outlive it.
func NewSelective(conn *Conn, cfg LogConfig) Selective {
	cfg.own = &interest{topics: map[string]*followed{}, wake: make(chan struct{}, 1)}
	return Selective{NewEngine(conn, cfg)}
}

// interest is the topics that a node reads. It outlives a session.
type interest struct {
	mu     sync.Mutex
	topics map[string]*followed // by the digest of the name
	fresh  []*followed          // that the next round takes up
	next   *round               // somebody waits for it; nil: nobody does
	open   bool                 // the engine's log has the topics that are whole
	all    bool                 // everything is read, since a node of a version before subjects would not understand
	broken bool                 // the last session missed messages
	check  bool                 // the next round checks that nothing is missing
	asked  string               // digest of the topic up to which that was checked

	wake chan struct{} // has room for one: there is something to do for a round
}

// followed is a topic that is read.
type followed struct {
	name, digest string

	held  int    // results of Follow that were not released
	gone  bool   // given up
	from  uint64 // what comes is taken behind this sequence; 0: nothing yet
	whole bool   // the log has what was before, too

	sub  *nats.Subscription // of the session's feed
	last uint64             // sequence of the last message that came; used by the feed only
}

// round is one step of a session: it takes up the fresh topics, and comes to the log's end of that time.
type round struct {
	over chan struct{} // closed when it is
	at   broker.Position
	err  error
}

// Follow implements [broker.Selective].
func (e Selective) Follow(ctx context.Context, topics []string, upto uint64) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	own := e.cfg.own
	held := own.hold(topics)
	release = func() { own.release(held) }
	r := own.ask(held, upto > e.Log().Position().Offset && !own.isAll())
	for ; r != nil; r = own.ask(held, false) {
		if _, err := e.await(ctx, r); err != nil {
			release()
			return nil, fmt.Errorf("%w: following topics: %w", broker.ErrUnavailable, err)
		}
	}
	return release, nil
}

// End implements [broker.Selective].
func (e Selective) End(ctx context.Context) (broker.Position, error) {
	if e.cfg.own.isAll() {
		return e.Log().Position(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	return e.await(ctx, e.cfg.own.ask(nil, true))
}

// await waits for a round. One that failed is followed by another.
func (e Selective) await(ctx context.Context, r *round) (broker.Position, error) {
	for {
		if e.Away() > takeOverTime {
			return broker.Position{}, broker.ErrUnavailable
		}
		select {
		case <-r.over:
			if r.err == nil {
				return r.at, nil
			}
		case <-ctx.Done():
			return broker.Position{}, context.Cause(ctx)
		}
		r = e.cfg.own.ask(nil, true)
	}
}

// Prune implements [broker.Selective].
func (e Selective) Prune(used func(topic string) bool) {
	own := e.cfg.own
	own.mu.Lock()
	defer own.mu.Unlock()
	for digest, f := range own.topics {
		if f.held == 0 && !used(f.name) {
			f.gone = true
			f.unsubscribe()
			delete(own.topics, digest)
		}
	}
	own.fresh = slices.DeleteFunc(own.fresh, func(f *followed) bool { return f.gone })
}

// unsubscribe ends that messages of the topic come.
func (f *followed) unsubscribe() {
	if f.sub != nil {
		_ = f.sub.Unsubscribe() // it fails when the connection is closed
		f.sub = nil
	}
}

// hold follows topics until they are released, and at least until the next Prune.
func (i *interest) hold(topics []string) []*followed {
	held := make([]*followed, len(topics))
	i.mu.Lock()
	defer i.mu.Unlock()
	for n, name := range topics {
		digest := digestOf(name)
		f := i.topics[digest]
		if f == nil {
			f = &followed{name: name, digest: digest}
			i.topics[digest] = f
			i.fresh = append(i.fresh, f)
		}
		f.held++
		held[n] = f
	}
	return held
}

func (i *interest) release(held []*followed) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, f := range held {
		f.held--
	}
}

// ask returns the next round. It returns nil if none is needed: because all topics are whole, and the end is not asked for.
func (i *interest) ask(held []*followed, end bool) *round {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.open && !end && (i.all || !slices.ContainsFunc(held, func(f *followed) bool { return !f.whole })) {
		return nil
	}
	if i.next == nil {
		i.next = &round{over: make(chan struct{})}
	}
	i.stir()
	return i.next
}

// stir has the session look for something to do.
func (i *interest) stir() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// begin is called when a session begins to load its log: that will have the topics of now, or everything. It reports whether the session
// before missed messages.
func (i *interest) begin() (broken bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.wholeLocked()
	broken, i.open, i.broken = i.broken, false, false
	return broken
}

// wholeLocked says that the log has, or is about to have, all topics.
func (i *interest) wholeLocked() {
	for _, f := range i.topics {
		f.from, f.whole, f.last = 1, true, 0
	}
	i.fresh = nil
}

// readAll sets whether everything is read.
func (i *interest) readAll(all bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.all && !all {
		i.wholeLocked()
	}
	i.all = all
}

func (i *interest) isAll() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.all
}

// ready says that the log has what is whole.
func (i *interest) ready() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.open = true
	i.stir()
}

// isWhole reports whether the log has everything of a topic up to where this node has read.
func (i *interest) isWhole(digest string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	f := i.topics[digest]
	return i.all || f != nil && f.whole
}

// comes reports whether a message with that sequence, of that topic, comes to this node after it was acknowledged.
func (i *interest) comes(topic string, sequence uint64) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	f := i.topics[digestOf(topic)]
	return i.all || f != nil && f.from > 0 && sequence > f.from
}
