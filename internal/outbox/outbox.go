// Package outbox holds what waits for one client: the frames that its socket did not take
// yet, in order, within bounds. It does no I/O, starts nothing and has no lock; an Outbox is
// guarded by the lock of the connection that owns it.
//
// What an operation costs does not depend on how much waits.
package outbox

import "sync/atomic"

// Outbox is what waits for one client. A connection has one only while something waits.
// Its methods need its owner's lock, but for Size.
type Outbox struct {
	budget   *Budget // in which the items are counted
	overflow Overflow
	chunked  bool // how its frames are written

	first, last *node
	offset      int   // bytes of first that are already written
	oldest      *node // the first that an overflow policy may drop; nil if there is none
	names       names // of the policy latest
	sources     []*source

	size     atomic.Int64 // the items' cost in bytes
	replayed int64        // the part of it that came from sources
}

// Init makes the outbox ready for use.
func (o *Outbox) Init(budget *Budget, overflow Overflow, chunked bool) {
	o.budget, o.overflow, o.chunked = budget, overflow, chunked
}

// Size is what the outbox costs in bytes. It may be read without the lock.
func (o *Outbox) Size() int64 { return o.size.Load() }

// IsEmpty says that nothing waits.
func (o *Outbox) IsEmpty() bool { return o.first == nil }

// Takes says whether the outbox may take an item more: there is room, or Drop makes some.
func (o *Outbox) Takes(i Item) bool {
	waiting := o.waiting()
	return o.overflow != Disconnect || waiting == 0 || waiting+i.cost() <= o.budget.each
}

// waiting is the cost of what is yet to be written, as far as the outbox's own bound is for
// it: what a replay holds is bounded otherwise, and live events must not have to pay for
// it. A frame that is partly written is held whole, and counts so in size.
func (o *Outbox) waiting() int64 {
	n := o.size.Load() - o.replayed
	if o.offset > 0 && o.first.source == nil {
		n -= int64(o.offset)
	}
	return n
}

// Push appends an item, whether there is room or not: see Takes before it, and Drop behind.
func (o *Outbox) Push(i Item) {
	n := newNode(i)
	o.insert(n, nil)
	if n.droppable() {
		o.admit(n)
	}
}

// PushRest appends an item to an empty outbox of which n bytes are written already.
func (o *Outbox) PushRest(i Item, n int) {
	o.Push(i)
	o.wrote(n)
}

// PushSource appends all that a source has yet to give.
func (o *Outbox) PushSource(s Source) {
	n := &node{source: &source{Source: s}}
	n.source.node = n
	o.sources = append(o.sources, n.source)
	o.insert(n, nil)
}

// IsAtSource says that a source has come to the front.
func (o *Outbox) IsAtSource() bool { return o.first != nil && o.first.isSource() }

// Refill takes the next items from the source at the front, or removes it if it has none.
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

// Prune removes some of the items that a source has given: drop says it of the last ones, in
// the order in which they came. What is written or on its way stays as it is. The source may
// come to the front by that.
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

// Pop removes the first item, which is given up.
func (o *Outbox) Pop() (i Item, ok bool) {
	if o.first == nil {
		return i, false
	}
	i = o.first.item()
	o.remove(o.first)
	return i, true
}
