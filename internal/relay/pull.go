package relay

import (
	"context"
	"crypto/subtle"
	"time"

	"ssegateway/internal/connections"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
)

const (
	// pullBytes is how much another node gets at a time.
	pullBytes = 64 << 10
	// pullWait is how long it waits where there is nothing.
	pullWait = 5 * time.Second
	// pullSilence is after which time without a question a reader on another node counts as gone.
	pullSilence = 15 * time.Second
)

// pull is a reader on another node. It is guarded by the lock of its answer.
type pull struct {
	has    uint64 // pieces
	silent *time.Timer
}

// ServeAnswer implements [connections.Answers].
func (r *Relay) ServeAnswer(ctx context.Context, q connections.AnswerQuestion) (reply connections.AnswerReply, err error) {
	a := r.find(key(q.Key))
	if a == nil && q.What != connections.Look && q.What != connections.Begin && q.What != connections.Stop {
		a = r.pulled(q.Reader) // it is kept no more, and read on
	}
	if a == nil {
		return reply, connections.ErrAnswerGone
	}
	if a.auth != nil && (len(q.Authorization) != len(a.auth) || subtle.ConstantTimeCompare(a.auth[:], q.Authorization) != 1) {
		return reply, connections.ErrResumeForbidden
	}
	switch q.What {
	case connections.Look, connections.Begin, connections.Stop:
		return a.look(q)
	case connections.Leave:
		a.pullLeft(q.Reader)
		return reply, nil
	case connections.Stay:
		if !a.stay(q.Reader) {
			return reply, connections.ErrAnswerGone
		}
		return reply, nil
	case connections.Pull:
	}
	return a.pull(ctx, q)
}

// stay has a reader on another node be there for longer.
func (a *answer) stay(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.pulls[id]
	if p != nil {
		p.silent.Reset(pullSilence)
	}
	return p != nil
}

// look answers with the head, once the answer has been stopped or a reader is there, if that is asked for.
func (a *answer) look(q connections.AnswerQuestion) (reply connections.AnswerReply, err error) {
	what, holder := a.come(q.After)
	if what == gone {
		return reply, connections.ErrAnswerGone
	}
	reply.Header = a.head
	if what != streaming {
		reply.State = stateNames[what] // and nothing behind it
		return reply, nil
	}
	late := false
	if q.What == connections.Begin {
		if late = !a.begin(q.Reader, q.After); !late {
			a.relay.returns.Add(1)
		}
	}
	a.back(holder)
	if late {
		return connections.AnswerReply{}, connections.ErrAnswerGone
	}
	if q.What == connections.Stop {
		a.Stop()
	}
	return reply, nil
}

// begin adds a reader on another node, whose place come has kept. It returns false if the reader has missed something
// already.
func (a *answer) begin(id string, has uint64) bool {
	a.mu.Lock()
	if a.loose {
		a.mu.Unlock()
		return false
	}
	if a.pulls == nil {
		a.pulls = map[string]*pull{}
	}
	a.pulls[id] = &pull{has: has, silent: time.AfterFunc(pullSilence, func() {
		defer guard.Recover()
		a.pullLeft(id)
	})}
	if a.state == streaming && a.expiry != nil {
		a.expiry.Stop()
	}
	a.markRead()
	a.mu.Unlock()
	a.relay.book.mu.Lock()
	defer a.relay.book.mu.Unlock()
	if a.relay.book.pulls == nil {
		a.relay.book.pulls = map[string]*answer{}
	}
	a.relay.book.pulls[id] = a
	return true
}

// pulled returns the answer that a reader on another node reads, or nil.
func (r *Relay) pulled(id string) *answer {
	r.book.mu.Lock()
	defer r.book.mu.Unlock()
	return r.book.pulls[id]
}

// pullLeft is Over for a reader on another node.
func (a *answer) pullLeft(id string) {
	a.relay.book.mu.Lock()
	delete(a.relay.book.pulls, id)
	a.relay.book.mu.Unlock()
	a.mu.Lock()
	p := a.pulls[id]
	if p == nil {
		a.mu.Unlock()
		return
	}
	p.silent.Stop()
	delete(a.pulls, id)
	a.wakeLocked()
	held := a.left(nil)
	a.mu.Unlock()
	if held == nothing {
		a.end(gone)
	}
	a.relay.settle(a)
}

// pull answers with what is behind what a reader on another node has. It waits for it.
func (a *answer) pull(ctx context.Context, q connections.AnswerQuestion) (reply connections.AnswerReply, err error) {
	waits, cancel := context.WithTimeout(ctx, pullWait)
	defer cancel()
	for first := true; ; first = false {
		a.mu.Lock()
		p := a.pulls[q.Reader]
		if p == nil {
			a.mu.Unlock()
			return reply, connections.ErrAnswerGone
		}
		if first {
			p.silent.Reset(pullSilence)
			p.has = max(p.has, q.After)
			a.wakeLocked() // for write
		}
		reply = a.behindLocked(q.After, q.Part)
		changed := a.changedLocked()
		a.mu.Unlock()
		if reply.State != stateNames[streaming] || len(reply.Pieces)+len(reply.Part) > 0 {
			return reply, nil
		}
		select {
		case <-changed:
		case <-waits.Done():
			return reply, nil
		}
	}
}

// behindLocked returns pieces behind the n-th, of which a part is there.
func (a *answer) behindLocked(n uint64, part int) (reply connections.AnswerReply) {
	rest := pullBytes
	for ; rest > 0; n++ {
		piece := a.pieceLocked(n)
		if piece == nil {
			reply.State = stateNames[a.state]
			return reply
		}
		b := piece.Wire(false)
		if b = b[min(part, len(b)):]; len(b) > rest {
			reply.Part = b[:rest]
			return reply
		}
		part = 0
		reply.Pieces = append(reply.Pieces, b)
		rest -= len(b)
	}
	return reply
}

// pieceLocked returns the piece behind the n-th: an event that is kept, or blocks that come behind them and are not.
func (a *answer) pieceLocked(n uint64) *frame.Shared {
	switch {
	case n < uint64(len(a.events)):
		return a.events[n]
	case n >= a.freed && n-a.freed < uint64(len(a.pieces)):
		return a.pieces[n-a.freed]
	}
	return nil
}

// passLocked has readers on other nodes get blocks that are not kept, and returns how many pieces those who have them have.
func (a *answer) passLocked(blocks *frame.Shared) (upto uint64) {
	if a.freed == 0 {
		a.freed = uint64(len(a.events))
	}
	if len(a.pulls) == 0 {
		return 0
	}
	a.pieces = append(a.pieces, blocks)
	a.wakeLocked()
	return a.freed + uint64(len(a.pieces))
}

// awaitPulls waits until readers on other nodes have so many pieces, or have left. It returns false if the answer has
// ended before: they have yet to get what there is.
func (a *answer) awaitPulls(upto uint64) bool {
	for {
		a.mu.Lock()
		all := true
		for _, p := range a.pulls {
			all = all && p.has >= upto
		}
		if all || a.state != streaming {
			if all {
				a.freed, a.pieces = upto, nil
			}
			a.mu.Unlock()
			return all
		}
		changed := a.changedLocked()
		a.mu.Unlock()
		select {
		case <-changed:
		case <-a.ended:
		}
	}
}

// changedLocked returns a channel that is closed when there is more.
func (a *answer) changedLocked() <-chan struct{} {
	if a.changed == nil {
		a.changed = make(chan struct{})
	}
	return a.changed
}

var _ connections.Answers = (*Relay)(nil)

var _ gateway.Kept = (*answer)(nil)
