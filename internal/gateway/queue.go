package gateway

import (
	"bytes"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"ssegateway/internal/frame"
	"ssegateway/internal/topics"
)

// ErrNotWritten tells who waits for an event's writing that its stream ended
// first, or that the overflow policy dropped it.
var ErrNotWritten = errors.New("the event was not written")

// itemOverhead is what a queued frame costs beside its bytes. It is counted, so
// that the bounds on queues hold for tiny events too.
const itemOverhead = 64

// queue is what waits to be written to one stream. A connection has one only
// while something waits. Guarded by the connection's lock.
type queue struct {
	budget *budget // in which the items are counted

	items  []queued
	offset int // bytes of items[0] that are already written
	busy   int // items in the hands of a Pump

	replaying bool // it is the replayer's turn: items[0] is a replay

	size     atomic.Int64  // the items' cost in bytes; read without the lock to find who is to be cut
	took     atomic.Int64  // when the socket last took something, by Gateway.now; read without the lock too
	moved    time.Duration // when the client was last seen to take something
	progress uint64        // what the stream's Look said last; 0 before the first

	place int // in the backlog, -1 when it is there no more; guarded by the backlog's lock
}

// item is a frame that waits, or is to wait, or a replay, which stands for all frames
// it has yet to take from the log.
type item struct {
	frame  frame.Frame
	shared *frame.Shared // the same frame; nil if it has not waited yet, and is for this stream alone
	done   chan<- error  // nil where nobody waits; buffered, gets exactly one value
	replay *topics.Replay
	logged bool // the log holds the frame anyway: it costs this queue nothing
	kept   bool // no overflow policy drops it: what a client missed, and that it missed something
}

// cost is what the item costs its queue.
func (i item) cost() int64 {
	if i.logged {
		return itemOverhead
	}
	return int64(i.frame.Size()) + itemOverhead
}

// queued is an item as a queue holds it: in half the memory, since where many clients are
// slow there are millions.
type queued struct {
	frame  *frame.Shared // nil for a replay
	done   chan<- error
	replay *topics.Replay
	logged bool
	kept   bool
}

func newQueued(i item) queued {
	if i.shared == nil && i.replay == nil {
		i.shared = &frame.Shared{Frame: i.frame}
	}
	return queued{i.shared, i.done, i.replay, i.logged, i.kept}
}

func (q queued) item() item {
	i := item{shared: q.frame, done: q.done, replay: q.replay, logged: q.logged, kept: q.kept}
	if q.frame != nil {
		i.frame = q.frame.Frame
	}
	return i
}

// bytes is what it holds in memory beside itself.
func (q queued) bytes() int64 {
	if q.logged || q.frame == nil {
		return 0
	}
	return int64(q.frame.Size())
}

// droppable says whether an overflow policy may drop it.
func (q queued) droppable() bool { return q.frame != nil && q.frame.Events() > 0 && !q.kept }

func (i item) settle(err error) {
	if i.done != nil {
		i.done <- err
	}
}

// front is what is to be written next of the first item.
func (q *queue) front(chunked bool) []byte { return q.items[0].frame.Wire(chunked)[q.offset:] }

// batch is what is to be written next, at most writeBytes: of the first item, or of
// several put together in buf, for one system call. It also says of how many items.
func (q *queue) batch(chunked bool, buf []byte) (b []byte, items int) {
	b = q.front(chunked)
	if len(q.items) == 1 || len(b) > writeBytes/2 {
		return b[:min(len(b), writeBytes)], 1
	}
	buf = append(buf, b...)
	for items = 1; items < len(q.items); items++ {
		i := q.items[items]
		if i.replay != nil {
			break
		}
		b := i.frame.Wire(chunked)
		if len(buf)+len(b) > writeBytes {
			break
		}
		buf = append(buf, b...)
	}
	return buf, items
}

// pop removes the first item, which has been written or is given up.
func (q *queue) pop() item {
	i := q.items[0]
	q.items[0] = queued{}
	q.items = q.items[1:]
	q.offset = 0
	q.uncount(i)
	return i.item()
}

func (q *queue) push(i item) {
	q.items = append(q.items, newQueued(i))
	q.count(q.items[len(q.items)-1])
}

// unshift puts items before all others.
func (q *queue) unshift(items []item) {
	all := make([]queued, 0, len(items)+len(q.items))
	for _, i := range items {
		all = append(all, newQueued(i))
		q.count(all[len(all)-1])
	}
	q.items = append(all, q.items...)
}

// count takes an item into the accounts, uncount out of them.
func (q *queue) count(i queued) {
	q.size.Add(i.bytes() + itemOverhead)
	q.budget.hold(i)
}

func (q *queue) uncount(i queued) {
	q.size.Add(-i.bytes() - itemOverhead)
	q.budget.release(i)
}

// waiting is the cost of what is yet to be written. A frame that is partly written
// is held whole, and counts so in size.
func (q *queue) waiting() int64 {
	n := q.size.Load()
	if q.offset > 0 && !q.items[0].logged {
		n -= int64(q.offset)
	}
	return n
}

// droppable is the index of the first item that is not yet on its way.
func (q *queue) droppable() int {
	if q.offset > 0 {
		return max(q.busy, 1)
	}
	return q.busy
}

// dropOldest removes the oldest event that is not yet on its way.
func (q *queue) dropOldest() (dropped item, ok bool) {
	for n := q.droppable(); n < len(q.items); n++ {
		if i := q.items[n]; i.droppable() {
			q.items = slices.Delete(q.items, n, n+1)
			q.uncount(i)
			return i.item(), true
		}
	}
	return item{}, false
}

// dropSuperseded removes the events that are not yet on their way and have a newer
// one of their name behind them, or in next.
func (q *queue) dropSuperseded(next frame.Frame) (dropped []item) {
	newer := map[string]bool{eventName(next): true}
	start := q.droppable()
	kept := len(q.items)
	for n := len(q.items) - 1; n >= start; n-- {
		i := q.items[n]
		if i.droppable() {
			name := eventName(i.frame.Frame)
			if newer[name] {
				dropped = append(dropped, i.item())
				q.uncount(i)
				continue
			}
			newer[name] = true
		}
		kept--
		q.items[kept] = i
	}
	q.items = slices.Delete(q.items, start, kept)
	return dropped
}

// eventName is the name of a frame's event. Only an overflow looks, so frames do not keep it.
func eventName(f frame.Frame) string {
	rest, ok := bytes.CutPrefix(f.Wire(false), []byte("event: "))
	if !ok {
		return ""
	}
	name, _, _ := bytes.Cut(rest, []byte("\n"))
	return string(name)
}
