package outbox

import "sync/atomic"

// Budget bounds the bytes that may wait in all outboxes of a gateway together, and in each of them,
// and counts those that do. It counts what they hold in memory: a frame that waits in several
// outboxes counts once.
type Budget struct {
	all, each int64        // bounds in bytes; fixed after construction
	bytes     atomic.Int64 // what waits
}

// NewBudget makes a Budget with bounds in bytes: for all outboxes together, and for each of them.
func NewBudget(all, each int64) *Budget { return &Budget{all: all, each: each} }

// Bytes returns how many bytes wait.
func (b *Budget) Bytes() int64 { return b.bytes.Load() }

// HasRoom reports whether an item that waits nowhere else would still fit.
func (b *Budget) HasRoom(i Item) bool { return b.bytes.Load()+i.cost() <= b.all }

// Exceeded reports whether more waits than the budget allows.
func (b *Budget) Exceeded() bool { return b.bytes.Load() > b.all }

// Relieved reports whether enough was cut: a sixteenth of the budget is free.
func (b *Budget) Relieved() bool { return b.bytes.Load() <= b.all-b.all/16 }

// hold counts an item that was added to an outbox.
func (b *Budget) hold(n *node) {
	bytes := int64(itemOverhead)
	if n.bytes() > 0 && n.frame.Join() {
		bytes += n.bytes()
	}
	b.bytes.Add(bytes)
}

// release counts an item that has left its outbox.
func (b *Budget) release(n *node) {
	bytes := int64(itemOverhead)
	if n.bytes() > 0 && n.frame.Leave() {
		bytes += n.bytes()
	}
	b.bytes.Add(-bytes)
}
