// Package outbox holds what waits for one client: the frames that its socket has not taken yet, in
// order, within bounds. It does no I/O, starts no goroutine and has no lock; the connection that
// owns an Outbox guards it by its own lock.
//
// The cost of an operation does not depend on how much waits.
package outbox

import "sync/atomic"

// Outbox is what waits for one client. A connection has one only while something waits. The owner's
// lock has to be held for all methods except Size.
type Outbox struct {
	budget   *Budget // in which the items are counted
	overflow Overflow
	chunked  bool // how its frames are written

	first, last *node
	offset      int   // bytes of first that are already written
	oldest      *node // the first node that an overflow policy may drop; nil if there is none
	names       names // of the policy latest
	sources     []*source

	size     atomic.Int64 // the items' cost in bytes
	replayed int64        // the part of size that came from sources
}

// Init prepares the outbox for use. enveloped says that events may be in envelopes ([frame.Envelope]).
func (o *Outbox) Init(budget *Budget, overflow Overflow, chunked, enveloped bool) {
	o.budget, o.overflow, o.chunked, o.names.enveloped = budget, overflow, chunked, enveloped
}

// Size returns the cost of the outbox in bytes. It may be called without the lock.
func (o *Outbox) Size() int64 { return o.size.Load() }

// IsEmpty reports whether nothing waits.
func (o *Outbox) IsEmpty() bool { return o.first == nil }

// Takes reports whether the outbox accepts one more item: there is room, or Drop can make some.
func (o *Outbox) Takes(i Item) bool {
	waiting := o.waiting()
	return o.overflow != Disconnect || waiting == 0 || waiting+i.cost() <= o.budget.each
}

// waiting returns the cost of what is still to be written and counts against the outbox's own
// bound. What a replay holds does not count, because it has a bound of its own, and live events
// must not be dropped for it. The bytes of a partly written frame that are written already do not
// count either, although the whole frame stays in memory and in size.
func (o *Outbox) waiting() int64 {
	n := o.size.Load() - o.replayed
	if o.offset > 0 && o.first.source == nil {
		n -= int64(o.offset)
	}
	return n
}

// Push appends an item, even if there is no room: call Takes before it, and Drop after it.
func (o *Outbox) Push(i Item) {
	n := newNode(i)
	o.insert(n, nil)
	if n.droppable() {
		o.admit(n)
	}
}

// PushRest appends an item to an empty outbox. n bytes of it are written already.
func (o *Outbox) PushRest(i Item, n int) {
	o.Push(i)
	o.wrote(n)
}

// PushSource appends everything that a source has yet to give.
func (o *Outbox) PushSource(s Source) {
	n := &node{source: &source{Source: s}}
	n.source.node = n
	o.sources = append(o.sources, n.source)
	o.insert(n, nil)
}

// IsAtSource reports whether a source is at the front.
func (o *Outbox) IsAtSource() bool { return o.first != nil && o.first.isSource() }

// Refill takes the next items from the source at the front, or removes the source if it has none.
// No overflow policy drops them.
func (o *Outbox) Refill() {
	front := o.first
	items := front.source.Next(sourceBytes)
	if len(items) == 0 {
		o.remove(front)
	}
	for _, i := range items {
		n := newNode(i)
		n.kept, n.source = true, front.source
		o.insert(n, front)
	}
}

// Prune removes some of the items that a source has given. drop has one value for each of the last
// of them, in the order in which they came. Items that are written or on their way stay. Afterwards
// the source may be at the front.
func (o *Outbox) Prune(s Source, drop []bool) {
	for _, waits := range o.sources {
		if waits.Source != s {
			continue
		}
		n := waits.node.prev
		for i := len(drop) - 1; i >= 0 && n != nil && n.source == waits && !n.going; i-- {
			item := n
			n = n.prev
			if drop[i] {
				o.remove(item)
			}
		}
	}
}

// Pop removes the first item without writing it.
func (o *Outbox) Pop() (i Item, ok bool) {
	if o.first == nil {
		return i, false
	}
	i = o.first.item()
	o.remove(o.first)
	return i, true
}
