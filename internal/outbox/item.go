package outbox

import "ssegateway/internal/frame"

// itemOverhead is what a waiting item costs in bytes beside its frame. It is counted, so that the
// bounds hold for tiny events too.
const itemOverhead = 64

// Item is a frame that waits to be written.
type Item struct {
	Frame  frame.Frame
	Shared *frame.Shared // the same frame, if other outboxes may hold it too; nil if only this one does
	Done   chan<- error  // gets exactly one value, and has room for it; nil if nobody waits for the result
	Kept   bool          // no overflow policy drops it, since it is part of a replay or a gap
}

// Tell reports the result to the waiter of the item: nil if it was written.
func (i *Item) Tell(err error) {
	if i.Done != nil {
		i.Done <- err
	}
}

// cost returns what the item costs its outbox, in bytes.
func (i *Item) cost() int64 { return int64(i.Frame.Size()) + itemOverhead }

// Source gives the items of a replay.
type Source interface {
	// Next returns the next items in order: at least one, and otherwise at most that many bytes of
	// frames. It returns none when there are no more.
	Next(most int) []Item
}

// sourceBytes is how much is taken from a source at a time. A slow client keeps no more of a replay
// in memory, however long the replay is.
const sourceBytes = 64 << 10
