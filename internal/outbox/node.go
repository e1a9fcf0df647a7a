package outbox

import "ssegateway/internal/frame"

// node is an item in its place in an outbox. It has the size of itemOverhead: where many
// clients are slow there are millions.
type node struct {
	prev, next *node
	frame      *frame.Shared // nil for a source
	done       chan<- error
	source     *source // stands for all items that it has yet to give

	// Of the policy latest.
	prevSuperseded, nextSuperseded *node
	names                          uint16 // of how many names it has the newest event

	logged bool
	kept   bool // no overflow policy drops it, or drops it any more
}

// source is a Source that waits.
type source struct{ Source }

func newNode(i Item) *node {
	if i.Shared == nil {
		i.Shared = &frame.Shared{Frame: i.Frame}
	}
	return &node{frame: i.Shared, done: i.Done, logged: i.Logged, kept: i.Kept}
}

func (n *node) item() Item {
	i := Item{Shared: n.frame, Done: n.done, Logged: n.logged, Kept: n.kept}
	if n.frame != nil {
		i.Frame = n.frame.Frame
	}
	return i
}

// bytes is what it holds in memory beside itself.
func (n *node) bytes() int64 {
	if n.logged || n.frame == nil {
		return 0
	}
	return int64(n.frame.Size())
}

// droppable says whether an overflow policy may drop it.
func (n *node) droppable() bool { return !n.kept && n.frame != nil && n.frame.Events() > 0 }

// insert puts a node before another, or at the end if that is nil.
func (o *Outbox) insert(n, before *node) {
	after := o.last
	if before != nil {
		after = before.prev
	}
	n.prev, n.next = after, before
	if after == nil {
		o.first = n
	} else {
		after.next = n
	}
	if before == nil {
		o.last = n
	} else {
		before.prev = n
	}
	o.size.Add(n.bytes() + itemOverhead)
	o.budget.hold(n)
}

// remove takes a node out.
func (o *Outbox) remove(n *node) {
	o.retire(n)
	if n.prev == nil {
		o.first, o.offset = n.next, 0
	} else {
		n.prev.next = n.next
	}
	if n.next == nil {
		o.last = n.prev
	} else {
		n.next.prev = n.prev
	}
	o.size.Add(-n.bytes() - itemOverhead)
	o.budget.release(n)
}
