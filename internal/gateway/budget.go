package gateway

import "sync/atomic"

// budget is what waits in all queues together, those of pending connections included,
// and what may wait. It counts what the queues hold in memory: a frame that waits in
// several is there once.
type budget struct {
	limit int64        // fixed after construction
	bytes atomic.Int64 // what waits
}

// hold counts an item that has come into a queue.
func (b *budget) hold(i queued) {
	n := int64(itemOverhead)
	if i.bytes() > 0 && i.frame.Join() {
		n += i.bytes()
	}
	b.bytes.Add(n)
}

// release counts an item that has left its queue.
func (b *budget) release(i queued) {
	n := int64(itemOverhead)
	if i.bytes() > 0 && i.frame.Leave() {
		n += i.bytes()
	}
	b.bytes.Add(-n)
}

// hasRoom says whether so many bytes more would fit, in a frame that waits nowhere else.
func (b *budget) hasRoom(n int64) bool { return b.bytes.Load()+n <= b.limit }

// exceeded says that more waits than may.
func (b *budget) exceeded() bool { return b.bytes.Load() > b.limit }

// relieved says that enough was cut: a sixteenth of the budget is free.
func (b *budget) relieved() bool { return b.bytes.Load() <= b.limit-b.limit/16 }
