package outbox

import "ssegateway/internal/frame"

// node is an item with its place in an outbox. Its size is itemOverhead: with many slow clients
// there are millions of nodes.
type node struct {
	prev, next *node
	frame      *frame.Shared // nil for a source, which stands for all items that it has yet to give
	done       chan<- error
	source     *source // the one that it is, or that gave it; nil for a frame that was sent

	// Of the policy latest.
	prevSuperseded, nextSuperseded *node
	names                          uint16 // for how many names it has the newest event

	kept  bool // no overflow policy drops it
	going bool // the client has a part of it, or it is part of a write that is under way
}

// source is a Source that waits for its turn.
type source struct {
	Source
	node *node // its own, right behind the nodes that it gave
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

// bytes returns what the node holds in memory beside itself.
func (n *node) bytes() int64 {
	if n.frame == nil {
		return 0
	}
	return int64(n.frame.Size())
}

// isSource reports whether the node stands for the items that a source has yet to give.
func (n *node) isSource() bool { return n.frame == nil }

// droppable reports whether an overflow policy may drop the node.
func (n *node) droppable() bool { return !n.kept && !n.going && !n.isSource() && n.frame.Events() > 0 }

// insert adds a node before another one, or at the end if that is nil.
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

// remove removes a node.
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

// count adds to the cost of the outbox.
func (o *Outbox) count(n *node, bytes int64) {
	o.size.Add(bytes)
	if n.source != nil {
		o.replayed += bytes
	}
}
