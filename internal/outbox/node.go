package outbox

import "ssegateway/internal/frame"

// node is an item in its place in an outbox. It has the size of itemOverhead: where many
// clients are slow there are millions.
type node struct {
	prev, next *node
	frame      *frame.Shared // nil for a source: it stands for all items that it has yet to give
	done       chan<- error
	source     *source // which it is, or which gave it; nil for what was sent

	// Of the policy latest.
	prevSuperseded, nextSuperseded *node
	names                          uint16 // of how many names it has the newest event

	kept  bool // no overflow policy drops it
	going bool // the client has a part of it, or a write has that is under way
}

// source is a Source that waits.
type source struct {
	Source
	node *node // its own, right behind those of what it gave
}

func newNode(i Item) *node {
	if i.Shared == nil {
		i.Shared = &frame.Shared{Frame: i.Frame}
	}
	return &node{frame: i.Shared, done: i.Done, kept: i.Kept}
}

func (n *node) item() Item {
	i := Item{Shared: n.frame, Done: n.done, Kept: n.kept}
	if n.frame != nil {
		i.Frame = n.frame.Frame
	}
	return i
}

// bytes is what it holds in memory beside itself.
func (n *node) bytes() int64 {
	if n.frame == nil {
		return 0
	}
	return int64(n.frame.Size())
}

// isSource says that it stands for items that are yet to come.
func (n *node) isSource() bool { return n.frame == nil }

// droppable says whether an overflow policy may drop it.
func (n *node) droppable() bool { return !n.kept && !n.going && !n.isSource() && n.frame.Events() > 0 }

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
	o.count(n, n.bytes()+itemOverhead)
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
	if n.isSource() { // sources leave in the order in which they came
		o.sources = o.sources[1:]
	}
	o.count(n, -n.bytes()-itemOverhead)
	o.budget.release(n)
}

// count adds to what the outbox costs.
func (o *Outbox) count(n *node, bytes int64) {
	o.size.Add(bytes)
	if n.source != nil {
		o.replayed += bytes
	}
}
