package outbox

import "slices"

// Overflow is what happens when an outbox is full.
type Overflow uint8

const (
	// Disconnect cuts the connection (error, slow_consumer).
	Disconnect Overflow = iota
	// DropOldest drops the events that wait longest, as many as it takes.
	DropOldest
	// Latest drops events that have a newer one of their name behind them, as many as it
	// takes, those first that have had it for longest. Where that is not enough it goes on
	// with the oldest.
	Latest
)

var overflowNames = [...]string{Disconnect: "disconnect", DropOldest: "drop_oldest", Latest: "latest"}

// String is the form in which the backend names it.
func (o Overflow) String() string { return overflowNames[o] }

// ParseOverflow reads what String writes.
func ParseOverflow(s string) (Overflow, bool) {
	i := slices.Index(overflowNames[:], s)
	return Overflow(max(i, 0)), i >= 0 //nolint:gosec // a few
}

// names is what the policy latest knows of the events that may be dropped.
type names struct {
	newest map[string]*node // by name: the last frame with an event of it
	// The superseded frames: each of their events has a newer one of its name behind it.
	// They are in the order in which they came to that, which is the order of dropping.
	first, last *node
}

// Drop gives up one frame by the overflow policy, if more waits than may. What came last is
// never given up: an empty outbox takes any one item.
func (o *Outbox) Drop() (dropped Item, ok bool) {
	if o.overflow == Disconnect || o.waiting() <= o.budget.each {
		return Item{}, false
	}
	n := o.names.first
	if n == nil {
		n = o.oldest
	}
	if n == nil || n == o.last {
		return Item{}, false
	}
	dropped = n.item()
	o.remove(n)
	return dropped, true
}

// admit makes a frame that has been appended one that may be dropped.
func (o *Outbox) admit(n *node) {
	if o.oldest == nil {
		o.oldest = n
	}
	if o.overflow == Latest {
		o.names.add(n)
	}
}

// retire makes a frame one that may not be dropped any more: it is on its way, or leaves.
func (o *Outbox) retire(n *node) {
	was := n.droppable()
	n.going = true
	if !was {
		return
	}
	if o.overflow == Latest {
		o.names.remove(n)
	}
	// Each frame is passed over once, since none becomes one that may be dropped.
	for o.oldest != nil && !o.oldest.droppable() {
		o.oldest = o.oldest.next
	}
}

func (x *names) add(n *node) {
	if x.newest == nil {
		x.newest = map[string]*node{}
	}
	for name := range eventNames(n.frame.Frame) {
		before := x.newest[string(name)]
		x.newest[string(name)] = n
		n.names++
		if before == nil {
			continue
		}
		if before.names--; before.names == 0 { // which n itself never comes to
			x.supersede(before)
		}
	}
}

func (x *names) supersede(n *node) {
	if n.prevSuperseded = x.last; x.last == nil {
		x.first = n
	} else {
		x.last.nextSuperseded = n
	}
	x.last = n
}

func (x *names) remove(n *node) {
	if n.names > 0 { // it is not superseded
		for name := range eventNames(n.frame.Frame) {
			if x.newest[string(name)] == n {
				delete(x.newest, string(name))
			}
		}
		return
	}
	if n.prevSuperseded == nil {
		x.first = n.nextSuperseded
	} else {
		n.prevSuperseded.nextSuperseded = n.nextSuperseded
	}
	if n.nextSuperseded == nil {
		x.last = n.prevSuperseded
	} else {
		n.nextSuperseded.prevSuperseded = n.prevSuperseded
	}
	n.prevSuperseded, n.nextSuperseded = nil, nil // one that is on its way must not keep alive what is dropped
}
