package outbox

import "slices"

// Overflow is what happens when an outbox is full.
type Overflow uint8

const (
	// Disconnect cuts the connection (error, slow_consumer).
	Disconnect Overflow = iota
	// DropOldest drops the events that have waited for longest, until there is room.
	DropOldest
	// Latest drops events that are superseded by a newer event with the same name, until there is
	// room. Those that were superseded first go first. If that is not enough it drops the oldest
	// events.
	Latest
)

var overflowNames = [...]string{Disconnect: "disconnect", DropOldest: "drop_oldest", Latest: "latest"}

// String returns the name that the backend uses.
func (o Overflow) String() string { return overflowNames[o] }

// ParseOverflow parses the name that String returns.
func ParseOverflow(s string) (Overflow, bool) {
	i := slices.Index(overflowNames[:], s)
	return Overflow(max(i, 0)), i >= 0 //nolint:gosec // a few
}

// names is what the policy latest knows of the events that may be dropped.
type names struct {
	enveloped bool             // events may be in envelopes
	newest    map[string]*node // by name: the last frame that has an event with that name
	// The superseded frames: for each of their events there is a newer one with the same name. They
	// are in the order in which they became superseded, which is the order of dropping.
	first, last *node
}

// Drop gives up one frame by the overflow policy, if more waits than may. It never gives up the
// last frame: an empty outbox accepts any item.
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

// admit makes a frame that has been appended available for dropping.
func (o *Outbox) admit(n *node) {
	if o.oldest == nil {
		o.oldest = n
	}
	if o.overflow == Latest {
		o.names.add(n)
	}
}

// retire excludes a frame from dropping: it is on its way, or leaves.
func (o *Outbox) retire(n *node) {
	was := n.droppable()
	n.going = true
	if !was {
		return
	}
	if o.overflow == Latest {
		o.names.remove(n)
	}
	// Each frame is passed over at most once, since none becomes droppable again.
	for o.oldest != nil && !o.oldest.droppable() {
		o.oldest = o.oldest.next
	}
}

func (x *names) add(n *node) {
	if x.newest == nil {
		x.newest = map[string]*node{}
	}
	for name := range eventNames(n.frame.Frame, x.enveloped) {
		before := x.newest[string(name)]
		x.newest[string(name)] = n
		n.names++
		if before == nil {
			continue
		}
		if before.names--; before.names == 0 { // n itself never gets there
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
		for name := range eventNames(n.frame.Frame, x.enveloped) {
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
	n.prevSuperseded, n.nextSuperseded = nil, nil // a frame that is on its way must not keep dropped ones in memory
}
