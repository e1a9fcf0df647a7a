package outbox

import "sync/atomic"

// Budget is what may wait in all outboxes of a gateway together and in each of them, and
// what does wait in all. It counts what they hold in memory: a frame that waits in several
// is there once.
type Budget struct {
	all, each int64        // bounds in bytes; fixed after construction
	bytes     atomic.Int64 // what waits
}

// NewBudget makes a Budget of so many bytes in all outboxes together, and in each of them.
func NewBudget(all, each int64) *Budget { return &Budget{all: all, each: each} }

// Bytes is what waits.
func (b *Budget) Bytes() int64 { return b.bytes.Load() }

// HasRoom says whether an item more would fit that waits nowhere else.
func (b *Budget) HasRoom(i Item) bool { return b.bytes.Load()+i.cost() <= b.all }

// Exceeded says that more waits than may.
func (b *Budget) Exceeded() bool { return b.bytes.Load() > b.all }

// Relieved says that enough was cut: a sixteenth of the budget is free.
func (b *Budget) Relieved() bool { return b.bytes.Load() <= b.all-b.all/16 }

// hold counts an item that has come into an outbox.
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
