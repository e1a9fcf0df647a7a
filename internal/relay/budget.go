package relay

import (
	"container/list"
	"net/netip"
	"sync"

	"ssegateway/internal/gateway"
)

// book has the answers that can be found, and what all of them keep.
type book struct {
	mu     sync.Mutex
	keys   map[key]*answer
	tokens map[gateway.Token]*answer
	pulls  map[string]*answer // by their readers on other nodes
	over   list.List          // of *answer: those that are kept and have ended, in that order
	used   int64              // bytes
}

// enter makes an answer that is kept one that can be found: by its token, and by its key.
func (r *Relay) enter(a *answer) {
	r.book.mu.Lock()
	defer r.book.mu.Unlock()
	if r.book.keys == nil {
		r.book.keys, r.book.tokens = map[key]*answer{}, map[gateway.Token]*answer{}
	}
	r.book.tokens[a.token], r.book.keys[a.key] = a, a
}

// find returns the answer with a key, or nil.
func (r *Relay) find(k key) *answer {
	r.book.mu.Lock()
	defer r.book.mu.Unlock()
	return r.book.keys[k]
}

func (r *Relay) ofToken(t gateway.Token) *answer {
	r.book.mu.Lock()
	defer r.book.mu.Unlock()
	return r.book.tokens[t]
}

// reserve counts bytes for what an answer keeps. If there is no room answers are given up that have ended, in the order in
// which they did. It returns false if that was not enough.
func (r *Relay) reserve(a *answer, bytes int64) bool {
	b := &r.book
	b.mu.Lock()
	defer b.mu.Unlock()
	for e := b.over.Front(); e != nil && b.used+bytes > r.cfg.BudgetBytes; {
		old, _ := e.Value.(*answer)
		e = e.Next()
		if old.giveUp() {
			b.removeLocked(old)
		}
	}
	if b.used+bytes > r.cfg.BudgetBytes || a.removed {
		return false
	}
	b.used += bytes
	a.reserved += bytes
	return true
}

// giveUp has nobody come back to an answer that has ended. It returns false if somebody reads it.
func (a *answer) giveUp() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.readers)+len(a.pulls)+a.joining > 0 {
		return false
	}
	a.kept = false
	a.expiry.Stop()
	return true
}

// ended puts an answer behind those that have ended before.
func (r *Relay) ended(a *answer) {
	r.book.mu.Lock()
	defer r.book.mu.Unlock()
	if !a.removed {
		a.place = r.book.over.PushBack(a)
	}
}

// forget has nobody find an answer by its key.
func (r *Relay) forget(a *answer) {
	r.book.mu.Lock()
	defer r.book.mu.Unlock()
	delete(r.book.keys, a.key)
}

// remove has nobody find an answer. What it keeps is released when nobody reads it.
func (r *Relay) remove(a *answer) {
	r.book.mu.Lock()
	defer r.book.mu.Unlock()
	r.book.removeLocked(a)
}

func (b *book) removeLocked(a *answer) {
	a.removed = true
	delete(b.keys, a.key)
	delete(b.tokens, a.token)
	if a.place != nil {
		b.over.Remove(a.place)
		a.place = nil
	}
	b.releaseLocked(a)
}

// settle releases what an answer keeps, if nobody comes back to it and nobody reads it.
func (r *Relay) settle(a *answer) {
	r.book.mu.Lock()
	defer r.book.mu.Unlock()
	if a.removed {
		r.book.releaseLocked(a)
	}
}

func (b *book) releaseLocked(a *answer) {
	if a.empty() {
		b.used -= a.reserved
		a.reserved = 0
	}
}

// empty lets go of what an answer keeps. It returns false if somebody reads it.
func (a *answer) empty() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.readers)+len(a.pulls)+a.joining > 0 {
		return false
	}
	a.kept, a.events = false, nil
	return true
}

// shrink lets go of what an answer has kept, when all who read it have taken it.
func (r *Relay) shrink(a *answer) {
	r.book.mu.Lock()
	defer r.book.mu.Unlock()
	a.mu.Lock()
	a.events = nil
	a.mu.Unlock()
	r.book.used -= a.reserved
	a.reserved = 0
}

// lonely has the answers that are read on for nobody, since the longest time first.
type lonely struct {
	mu      sync.Mutex // may be taken under an answer's
	answers list.List  // of *answer
}

func (l *lonely) all() []*answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*answer, 0, l.answers.Len())
	for e := l.answers.Front(); e != nil; e = e.Next() {
		a, _ := e.Value.(*answer)
		all = append(all, a)
	}
	return all
}

func (l *lonely) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answers.Len()
}

// Spare gives up the answer that is read on for nobody for longest, of those whose place counts for the same address as
// client, or of all if that is the zero Addr. It returns false if there is none.
func (r *Relay) Spare(client netip.Addr) bool {
	for _, a := range r.alone.all() {
		if holder := a.holds(); holder != nil && (!client.IsValid() || r.cfg.SameAddress(holder.ClientIP(), client)) {
			a.end(gone)
			return true
		}
	}
	return false
}

// Stats are what can be counted of answers that are kept.
type Stats struct {
	Kept, Alone     int   // answers that are kept now, and those of them that are read on for nobody
	Bytes           int64 // that this takes
	Unkept, Returns uint64
}

// Stats returns what there is now, how many answers were kept no more before their time, and how many clients came back.
func (r *Relay) Stats() Stats {
	r.book.mu.Lock()
	defer r.book.mu.Unlock()
	return Stats{Kept: len(r.book.keys), Alone: r.alone.len(), Bytes: r.book.used, Unkept: r.unkept.Load(), Returns: r.returns.Load()}
}

// Answer implements connections.Answers.
func (r *Relay) Answer(t gateway.Token) (gateway.Info, bool) {
	a := r.ofToken(t)
	if a == nil {
		return gateway.Info{}, false
	}
	info := a.Describe()
	return gateway.Info{Token: t, State: gateway.Closed, Relayed: true, Path: a.path, ClientIP: a.client, Since: a.since, Answer: &info}, true
}

// StopAnswer implements connections.Answers.
func (r *Relay) StopAnswer(t gateway.Token) bool {
	a := r.ofToken(t)
	if a == nil {
		return false
	}
	a.Stop()
	return true
}
