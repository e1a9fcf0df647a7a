// Package outbox holds what waits for one client: the frames that its socket did not take
// yet, in order, within bounds. It does no I/O, starts nothing and has no lock; an Outbox is
// guarded by the lock of the connection that owns it.
package outbox

import (
	"slices"
	"sync/atomic"

	"ssegateway/internal/frame"
)

// Outbox is what waits for one client. A connection has one only while something waits.
// Its methods need its owner's lock, but for Size.
type Outbox struct {
	budget   *Budget // in which the items are counted
	overflow Overflow
	chunked  bool // how its frames are written

	items  []queued
	offset int // bytes of items[0] that are already written
	held   int // items that a write holds that is under way

	size atomic.Int64 // the items' cost in bytes
}

// Init makes the outbox ready for use.
func (o *Outbox) Init(budget *Budget, overflow Overflow, chunked bool) {
	o.budget, o.overflow, o.chunked = budget, overflow, chunked
}

// Size is what the outbox costs in bytes. It may be read without the lock.
func (o *Outbox) Size() int64 { return o.size.Load() }

// IsEmpty says that nothing waits.
func (o *Outbox) IsEmpty() bool { return len(o.items) == 0 }

// HasRoom says whether the outbox may take an item more.
func (o *Outbox) HasRoom(i Item) bool { return o.waiting()+i.cost() <= o.budget.each }

// waiting is the cost of what is yet to be written. A frame that is partly written
// is held whole, and counts so in size.
func (o *Outbox) waiting() int64 {
	n := o.size.Load()
	if o.offset > 0 && !o.items[0].logged {
		n -= int64(o.offset)
	}
	return n
}

// Push appends an item, whether there is room or not.
func (o *Outbox) Push(i Item) { o.append(newQueued(i)) }

// PushRest appends an item to an empty outbox of which n bytes are written already.
func (o *Outbox) PushRest(i Item, n int) {
	o.Push(i)
	o.offset = n
}

// PushSource appends all that a source has yet to give.
func (o *Outbox) PushSource(s Source) { o.append(queued{source: s}) }

func (o *Outbox) append(q queued) {
	o.items = append(o.items, q)
	o.count(q)
}

// Pop removes the first item, which is given up.
func (o *Outbox) Pop() (i Item, ok bool) {
	if len(o.items) == 0 {
		return i, false
	}
	return o.pop().item(), true
}

func (o *Outbox) pop() queued {
	q := o.items[0]
	o.items[0] = queued{}
	o.items = o.items[1:]
	o.offset = 0
	o.uncount(q)
	return q
}

// IsAtSource says that a source has come to the front.
func (o *Outbox) IsAtSource() bool { return len(o.items) > 0 && o.items[0].source != nil }

// Refill takes the next items from the source at the front, or removes it if it has none.
func (o *Outbox) Refill() {
	items := o.items[0].source.Next()
	if len(items) == 0 {
		o.pop()
		return
	}
	all := make([]queued, 0, len(items)+len(o.items))
	for _, i := range items {
		q := newQueued(i)
		all = append(all, q)
		o.count(q)
	}
	o.items = append(all, o.items...)
}

// count takes an item into the accounts, uncount out of them.
func (o *Outbox) count(q queued) {
	o.size.Add(q.bytes() + itemOverhead)
	o.budget.hold(q)
}

func (o *Outbox) uncount(q queued) {
	o.size.Add(-q.bytes() - itemOverhead)
	o.budget.release(q)
}

// front is what is to be written next of the first item.
func (o *Outbox) front() []byte { return o.items[0].frame.Wire(o.chunked)[o.offset:] }

// Batch is what is to be written next, at most as many bytes as buf has room for: of the
// first item, or of several put together in buf, for one system call. It also says of how
// many items.
func (o *Outbox) Batch(buf []byte) (b []byte, items int) {
	buf = buf[:0]
	b = o.front()
	if len(o.items) == 1 || len(b) > cap(buf)/2 {
		return b[:min(len(b), cap(buf))], 1
	}
	buf = append(buf, b...)
	for items = 1; items < len(o.items); items++ {
		i := o.items[items]
		if i.source != nil {
			break
		}
		b := i.frame.Wire(o.chunked)
		if len(buf)+len(b) > cap(buf) {
			break
		}
		buf = append(buf, b...)
	}
	return buf, items
}

// Hold marks the first items as held by a write that is under way without the lock.
func (o *Outbox) Hold(items int) { o.held = items }

// Written takes note that n bytes were written. It removes the first item if that has been
// written with them, and says how many bytes of n were others'.
func (o *Outbox) Written(n int) (i Item, rest int, whole bool) {
	o.held = 0
	if len(o.items) == 0 || o.items[0].source != nil {
		return i, 0, false
	}
	if front := len(o.front()); n >= front {
		return o.pop().item(), n - front, true
	}
	o.offset += n
	return i, 0, false
}

// MakeRoom drops events by the overflow policy until there is room for one more, and
// reports false where the policy is to drop none. If nothing is left to drop there is
// room: an empty outbox takes any one item.
func (o *Outbox) MakeRoom(next Item) (dropped []Item, ok bool) {
	if o.overflow == Disconnect {
		return nil, false
	}
	if o.overflow == Latest {
		dropped = o.dropSuperseded(next.Frame)
	}
	for !o.HasRoom(next) {
		i, ok := o.dropOldest()
		if !ok {
			break
		}
		dropped = append(dropped, i)
	}
	return dropped, true
}

// droppable is the index of the first item that is not yet on its way.
func (o *Outbox) droppable() int {
	if o.offset > 0 {
		return max(o.held, 1)
	}
	return o.held
}

// dropOldest removes the oldest event that is not yet on its way.
func (o *Outbox) dropOldest() (dropped Item, ok bool) {
	for n := o.droppable(); n < len(o.items); n++ {
		if q := o.items[n]; q.droppable() {
			o.items = slices.Delete(o.items, n, n+1)
			o.uncount(q)
			return q.item(), true
		}
	}
	return Item{}, false
}

// dropSuperseded removes the events that are not yet on their way and have a newer
// one of their name behind them, or in next.
func (o *Outbox) dropSuperseded(next frame.Frame) (dropped []Item) {
	newer := map[string]bool{eventName(next): true}
	start := o.droppable()
	kept := len(o.items)
	for n := len(o.items) - 1; n >= start; n-- {
		q := o.items[n]
		if q.droppable() {
			name := eventName(q.frame.Frame)
			if newer[name] {
				dropped = append(dropped, q.item())
				o.uncount(q)
				continue
			}
			newer[name] = true
		}
		kept--
		o.items[kept] = q
	}
	o.items = slices.Delete(o.items, start, kept)
	return dropped
}
