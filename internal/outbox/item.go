package outbox

import "ssegateway/internal/frame"

// itemOverhead is what a waiting item costs beside the bytes of its frame. It is counted,
// so that the bounds hold for tiny events too.
const itemOverhead = 64

// Item is a frame that waits, or is to wait.
type Item struct {
	Frame  frame.Frame
	Shared *frame.Shared // the same frame, if other outboxes may hold it too; nil if it is for this one alone
	Done   chan<- error  // gets exactly one value, for which it has room; nil where nobody waits for it
	Kept   bool          // no overflow policy drops it: what a client missed, and that it missed something
}

// Tell says to who waits for it what became of the item: nil if it was written.
func (i *Item) Tell(err error) {
	if i.Done != nil {
		i.Done <- err
	}
}

// cost is what the item costs its outbox.
func (i *Item) cost() int64 { return int64(i.Frame.Size()) + itemOverhead }

// Source is where the items of a replay come from.
type Source interface {
	// Next returns the next items in order, at least one and otherwise at most so many
	// bytes of frames; none when there are no more.
	Next(most int) []Item
}

// sourceBytes is how much is taken from a source at a time: what a client that is slow keeps
// in memory of a replay, however long that is.
const sourceBytes = 64 << 10
