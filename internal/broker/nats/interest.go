package nats

import (
	"context"
	"errors"
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
	fresh  []*followed          // that are not subscribed to yet
	next   *round               // that somebody waits for; nil: nobody does
	open   bool                 // a session reads on from what the engine's log has
	all    bool                 // everything is read
	broken bool                 // messages were missed, and no log has begun behind them yet
	news   chan struct{}        // closed when one of the above, or a topic, is another way

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
	last uint64             // sequence of the last message that came
}

// everSince is a followed.from that is before all messages.
const everSince = 1

// round is one step of a session: it subscribes to the fresh topics, and comes to the log's end of that time.
type round struct {
	over chan struct{} // closed when it is
	at   broker.Position
	err  error
}

func (r *round) end(at broker.Position, err error) {
	r.at, r.err = at, err
	close(r.over)
}

// Follow implements [broker.Selective].
func (e Selective) Follow(ctx context.Context, topics []string, upto uint64) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	own := e.cfg.own
	held := own.hold(topics)
	if upto > e.Log().Position().Offset {
		_, err = e.End(ctx)
	}
	for err == nil {
		whole, news := own.has(held)
		if whole {
			return func() { own.release(held) }, nil
		}
		err = e.await(ctx, news)
	}
	own.release(held)
	return nil, fmt.Errorf("%w: following topics: %w", broker.ErrUnavailable, err)
}

// End implements [broker.Selective].
func (e Selective) End(ctx context.Context) (broker.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	for e.Selects() {
		r := e.cfg.own.ask()
		if err := e.await(ctx, r.over); err != nil {
			return broker.Position{}, fmt.Errorf("%w: the log's end: %w", broker.ErrUnavailable, err)
		}
		if r.err == nil {
			return r.at, nil
		}
	}
	return e.Log().Position(), nil
}

var errAway = errors.New("NATS is away")

// await waits for a channel to be closed.
func (e Selective) await(ctx context.Context, closed <-chan struct{}) error {
	if e.Away() > takeOverTime {
		return errAway
	}
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Selects implements [broker.Selective].
func (e Selective) Selects() bool { return !e.cfg.own.isAll() }

// Prune implements [broker.Selective].
func (e Selective) Prune(used func(topic string) bool) {
	own := e.cfg.own
	own.mu.Lock()
	defer own.mu.Unlock()
	for digest, t := range own.topics {
		if t.held == 0 && !used(t.name) {
			t.gone = true
			t.unsubscribe()
			delete(own.topics, digest)
		}
	}
	own.fresh = slices.DeleteFunc(own.fresh, func(t *followed) bool { return t.gone })
}

// unsubscribe ends that messages of the topic come.
func (t *followed) unsubscribe() {
	if t.sub != nil {
		_ = t.sub.Unsubscribe() // it fails when the connection is closed
		t.sub = nil
	}
}

// hold follows topics until they are released, and at least until the next Prune.
func (i *interest) hold(topics []string) []*followed {
	held := make([]*followed, len(topics))
	i.mu.Lock()
	defer i.mu.Unlock()
	for n, name := range topics {
		digest := digestOf(name)
		t := i.topics[digest]
		if t == nil {
			t = &followed{name: name, digest: digest}
			i.topics[digest] = t
			i.fresh = append(i.fresh, t)
			i.stir()
		}
		t.held++
		held[n] = t
	}
	return held
}

func (i *interest) release(held []*followed) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, t := range held {
		t.held--
	}
}

// has reports whether the log has topics, and otherwise what is closed when that may have changed.
func (i *interest) has(held []*followed) (whole bool, news <-chan struct{}) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.open && (i.all || !slices.ContainsFunc(held, func(t *followed) bool { return !t.whole })) {
		return true, nil
	}
	if i.news == nil {
		i.news = make(chan struct{})
	}
	return false, i.news
}

// tellLocked has those look again who wait for topics.
func (i *interest) tellLocked() {
	if i.news != nil {
		close(i.news)
		i.news = nil
	}
}

// ask returns the next round.
func (i *interest) ask() *round {
	i.mu.Lock()
	defer i.mu.Unlock()
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

// take returns what the next round has to do. r is nil if nobody waits for it.
func (i *interest) take() (r *round, fresh []*followed) {
	i.mu.Lock()
	defer i.mu.Unlock()
	r, fresh = i.next, i.fresh
	i.next, i.fresh = nil, nil
	return r, fresh
}

// begin is called when a session begins to load its log: everything, or the topics of now. It reports whether messages were
// missed before.
func (i *interest) begin(all bool) (broken bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, t := range i.topics {
		t.from, t.whole, t.last = everSince, true, 0
	}
	i.fresh, i.open, i.all = nil, false, all
	return i.broken
}

// ready is called when the session reads on from what the engine's log has.
func (i *interest) ready() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.open, i.broken = true, false
	if i.all && i.next != nil { // there are no rounds
		i.next.end(broker.Position{}, errReadsAll)
		i.next = nil
	}
	i.stir()
	i.tellLocked()
}

var errReadsAll = errors.New("the node reads everything")

// filled is called when the log has what topics had before.
func (i *interest) filled(topics []*followed) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, t := range topics {
		t.whole = true
	}
	i.tellLocked()
}

func (i *interest) isAll() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.all
}

// isWhole reports whether the log has everything of a topic up to where this node has read.
func (i *interest) isWhole(digest string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	t := i.topics[digest]
	return i.all || t != nil && t.whole
}

// comes reports whether a message with that sequence, of that topic, comes to this node after it was acknowledged.
func (i *interest) comes(digest string, sequence uint64) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	t := i.topics[digest]
	return i.all || t != nil && (t.from == everSince || t.from > 0 && sequence > t.from)
}

// miss records that messages were missed, so that the next log does not reach back over them.
func (i *interest) miss() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.broken = true
}
