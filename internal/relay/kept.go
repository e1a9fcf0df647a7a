package relay

import (
	"container/list"
	"context"
	"encoding/hex"
	"net/http"
	"slices"
	"sync"
	"time"

	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
)

// state is what has become of an answer.
type state uint8

const (
	streaming state = iota
	complete        // the backend has ended it
	stopped         // it was ended for everybody
	failed          // the backend broke off, or there was no time left
	gone            // nobody was there for it any more
)

var stateNames = [...]string{streaming: "streaming", complete: "complete", stopped: "stopped", failed: "failed", gone: "gone"}

// answer is an event stream of the backend's, and what is kept of it. It implements [gateway.Kept].
//
// Locks are taken in the order connection, answer, and relay, answer. A connection is called without the lock of an answer.
type answer struct {
	relay  *Relay
	key    key
	token  gateway.Token // of the request
	path   string        // without a query, as what follows for those who ask for what is kept
	client string        // its address; "": not known
	since  time.Time
	head   http.Header // for those who come back
	auth   *[32]byte   // what they have to bring; nil: nothing
	wait   time.Duration
	cancel context.CancelFunc
	stop   func()        // has another node stop it, whose answer it is; nil: it is this one's
	closed sync.Once     // its backend is counted no more
	ended  chan struct{} // closed when it has

	// Used by the goroutine that reads the backend only.
	keeping bool            // kept
	ids     bool            // events get one
	arena   []byte          // where events are put
	idLine  []byte          // what each gets
	number  uint64          // of the last event
	some    []*gateway.Conn // a list to reuse
	done    chan error      // of those who take what is not kept; to reuse
	offered uint64          // events that were offered to the readers
	fresh   int             // those that were not yet

	reserved int64         // bytes of the budget; guarded by the relay's lock
	place    *list.Element // among those that have ended; guarded by the relay's lock
	removed  bool          // nobody comes back to it; guarded by the relay's lock

	mu      sync.Mutex
	state   state
	events  []*frame.Shared
	bytes   int64 // so far
	size    int64 // of events, with their cost
	loose   bool  // blocks were written that are not kept, and that only those got who were there
	kept    bool  // who loses it can come back
	readers []*gateway.Conn
	pulls   map[string]*pull // readers on other nodes
	pieces  []*frame.Shared  // for them: blocks that are not kept, behind freed pieces
	freed   uint64
	joining int           // readers who are about to be there
	holder  *gateway.Conn // counts for the answer while nobody reads it; nil: somebody does
	alone   time.Time     // since when nobody does
	lonely  *list.Element // its place in the relay's alone, as long as alone is set
	expiry  *time.Timer   // ends that, or what is kept of an answer that is over
	changed chan struct{} // closed when there is more; nil: nobody waits
}

// key names an answer: the node's number and 96 random bits.
type key gateway.Token

func (k key) String() string { return hex.EncodeToString(k[:]) }

const (
	// eventCost is what an event that is kept costs in bytes, beside its own.
	eventCost = 64
	// answerCost is what an answer that is kept costs in bytes, beside its head and its events.
	answerCost = 1 << 10
	// someEvents are counted in the budget together.
	someEvents = 16
)

const noBudget = "there is no room in RELAY_BUDGET_BYTES"

// segments have these sizes in bytes: a quarter of what there is.
const (
	leastSegment = 1 << 10
	mostSegment  = 64 << 10
)

// keep keeps an event, which has no id yet. It returns false if the answer is kept no more.
func (a *answer) keep(before, after []byte) bool {
	id := a.id(a.number + 1)
	need := frame.Room(len(before) + len(id) + len(after))
	a.mu.Lock()
	had, over := a.size, a.state != streaming
	events := len(a.events)
	a.mu.Unlock()
	if over {
		return true // and nobody gets it
	}
	if had+int64(need)+eventCost > a.relay.cfg.AnswerBytes {
		a.drop("it has outgrown RELAY_ANSWER_BYTES")
		return false
	}
	more, room := int64(0), cap(a.arena)-len(a.arena)
	if events%someEvents == 0 {
		more = someEvents * eventCost
	}
	if need > room {
		room = max(need, min(max(leastSegment, int(had/4)), mostSegment))
		more += int64(room)
	}
	if more > 0 && !a.relay.reserve(a, more) {
		a.drop(noBudget)
		return false
	}
	if need > cap(a.arena)-len(a.arena) {
		a.arena = make([]byte, 0, room)
	}
	event := &frame.Shared{}
	a.arena, event.Frame = frame.Within(a.arena, 1, before, id, after)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state == streaming {
		a.number++
		a.fresh++
		a.events = append(a.events, event)
		a.bytes += int64(event.Len())
		a.size += int64(need) + eventCost
		a.wakeLocked()
	}
	return true
}

// drop has the answer kept no more. Those who read it read on.
func (a *answer) drop(why string) {
	a.keeping = false
	a.relay.forget(a)
	a.mu.Lock()
	was := a.kept
	a.kept = false
	leave := was && a.state == streaming && a.joining == 0 && len(a.readers)+len(a.pulls) == 0
	a.mu.Unlock()
	if was {
		a.relay.unkept.Add(1)
		a.relay.cfg.Log.Debug("a relayed answer is kept no more", "token", a.token.String(), "cause", why)
	}
	if leave {
		a.end(gone)
	}
}

// Count implements [gateway.Kept].
func (a *answer) Count() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return uint64(len(a.events))
}

// Behind implements [gateway.Kept].
func (a *answer) Behind(n, upto uint64, most int, give func(*frame.Shared)) {
	a.mu.Lock()
	events := a.events
	a.mu.Unlock()
	upto = min(upto, uint64(len(events)))
	for size, first := 0, n; n < upto; n++ {
		if size += events[n].Size(); n > first && size > most {
			return
		}
		give(events[n])
	}
}

// Describe implements [gateway.Kept].
func (a *answer) Describe() gateway.AnswerInfo {
	a.mu.Lock()
	defer a.mu.Unlock()
	return gateway.AnswerInfo{State: stateNames[a.state], Readers: len(a.readers) + len(a.pulls), Bytes: a.bytes, Resumable: a.kept && a.state != gone}
}

// Stop implements [gateway.Kept].
func (a *answer) Stop() {
	if a.stop != nil {
		a.stop()
		return
	}
	a.end(stopped)
}

// Cut implements [gateway.Kept].
func (a *answer) Cut() { a.end(failed) }

// end ends the answer, once: for its readers, and with the backend if that has not ended it.
func (a *answer) end(s state) {
	a.mu.Lock()
	if a.state != streaming {
		a.mu.Unlock()
		return
	}
	a.state = s
	readers := append([]*gateway.Conn{}, a.readers...)
	holder := a.holder
	a.holder = nil
	a.markRead()
	a.wakeLocked()
	if a.expiry != nil {
		a.expiry.Stop()
	}
	stays := a.kept && s != gone && a.wait > 0
	if stays {
		a.expiry = time.AfterFunc(a.wait, func() {
			defer guard.Recover()
			a.relay.remove(a)
		})
	}
	a.mu.Unlock()
	close(a.ended)
	a.cancel()
	a.backendGone()
	if holder != nil {
		holder.Release()
	}
	for _, c := range readers {
		a.endFor(c, s)
	}
	if stays {
		a.relay.ended(a)
	} else {
		a.relay.remove(a)
	}
}

// endFor ends a reader's stream as the answer has ended.
func (a *answer) endFor(c *gateway.Conn, s state) {
	if s == complete || s == stopped {
		c.Finish()
		return
	}
	detail := gateway.ConnectionLost
	if a.relay.cfg.Gateway.Draining() {
		detail = gateway.Draining
	}
	c.Cut(detail)
}

// backendGone uncounts the connection to the backend.
func (a *answer) backendGone() { a.closed.Do(func() { a.relay.open.Add(-1) }) }

// wakeLocked wakes those who wait for more.
func (a *answer) wakeLocked() {
	if a.changed != nil {
		close(a.changed)
		a.changed = nil
	}
}

// add adds a reader, whose place come has kept. Its connection reads the answer already.
func (a *answer) add(c *gateway.Conn) {
	late, s := a.addLocked(c)
	switch {
	case late:
		c.Cut(gateway.ConnectionLost)
	case s != streaming: // whoever ended it did not see this reader
		a.endFor(c, s)
	}
	if c.State() == gateway.Closed { // Over may have been called before
		a.Over(c)
	}
}

// addLocked adds a reader, unless it has missed something already, and returns what has become of the answer.
func (a *answer) addLocked(c *gateway.Conn) (late bool, s state) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.joining--
	if a.loose {
		return true, a.state
	}
	if a.state == streaming && a.expiry != nil {
		a.expiry.Stop()
	}
	a.markRead()
	a.readers = append(a.readers, c)
	return false, a.state
}

// Over implements [gateway.Kept].
func (a *answer) Over(c *gateway.Conn) {
	a.mu.Lock()
	if i := slices.Index(a.readers, c); i >= 0 {
		last := len(a.readers) - 1
		a.readers[i], a.readers[last] = a.readers[last], nil
		a.readers = a.readers[:last]
	}
	held := a.left(c)
	a.mu.Unlock()
	if held == nothing {
		a.end(gone)
	}
	if held != holding {
		c.Release()
	}
	a.relay.settle(a)
}

// What left has found.
const (
	others  = iota // somebody reads it, or it has ended
	nothing        // it is read by nobody and for nobody
	holding        // it is read on for those who come back
)

// left looks at what to do when a reader has left: c, or one on another node if that is nil. The caller holds the lock.
func (a *answer) left(c *gateway.Conn) int {
	elsewhere := len(a.pulls) > 0
	switch {
	case a.state != streaming || len(a.readers)+a.joining > 0:
		return others
	case !elsewhere && (!a.kept || a.relay.cfg.Gateway.Draining()):
		return nothing
	}
	if !elsewhere && a.alone.IsZero() {
		a.markAlone()
		a.expireIn(a.wait)
	} else if !elsewhere && time.Since(a.alone) >= a.wait {
		return nothing
	}
	if a.holder == nil {
		a.holder = c
	}
	if c != nil && a.holder == c {
		return holding
	}
	return others
}

// expireIn gives the answer up if nobody has come back by then. The caller holds the lock.
func (a *answer) expireIn(d time.Duration) {
	since := a.alone
	a.expiry = time.AfterFunc(d, func() {
		defer guard.Recover()
		a.mu.Lock()
		still := a.alone.Equal(since) && a.joining+len(a.pulls) == 0
		a.mu.Unlock()
		if still {
			a.end(gone)
		}
	})
}

// come keeps a place for a reader who comes back behind the n-th event. what is how the answer is to it: streaming if it
// may read, whatever has become of the answer; gone if there is nothing for it; and complete or stopped if it has all.
// The caller calls stay or back in the end if it may read.
func (a *answer) come(n uint64) (what state, holder *gateway.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	count := uint64(len(a.events))
	switch {
	case !a.kept || a.state == gone || n > count:
		return gone, nil
	case n == count && (a.state == complete || a.state == stopped):
		return a.state, nil
	}
	a.joining++
	holder, a.holder = a.holder, nil
	return streaming, holder
}

// back gives the place of a reader up that there is no room for. holder is what come has returned, if it was not released.
func (a *answer) back(holder *gateway.Conn) {
	a.mu.Lock()
	a.joining--
	held := a.left(holder)
	if held == others && a.state == streaming && a.holder == nil && len(a.readers)+len(a.pulls)+a.joining == 0 {
		held = nothing // there is no room for the answer either
	}
	a.mu.Unlock()
	if held == nothing {
		a.end(gone)
	}
	if held != holding && holder != nil {
		holder.Release()
	}
	a.relay.settle(a)
}

// markAlone puts the answer behind those that nobody reads already. The caller holds the lock.
func (a *answer) markAlone() {
	l := &a.relay.alone
	l.mu.Lock()
	defer l.mu.Unlock()
	a.alone = time.Now()
	a.lonely = l.answers.PushBack(a)
}

// markRead takes the answer from those that nobody reads: somebody does, or it has ended. The caller holds the lock.
func (a *answer) markRead() {
	if a.alone.IsZero() {
		return
	}
	l := &a.relay.alone
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers.Remove(a.lonely)
	a.alone, a.lonely = time.Time{}, nil
}

// holds returns who counts for an answer that is read on for nobody; nil: somebody reads it, or is about to.
func (a *answer) holds() *gateway.Conn {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state != streaming || a.joining+len(a.pulls) > 0 {
		return nil
	}
	return a.holder
}
