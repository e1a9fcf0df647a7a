// Package frame holds pieces of streams as they go on the wire: encoded once and
// never changed, so that the same bytes go to every stream that gets them.
package frame

import (
	"strconv"
	"sync/atomic"

	"ssegateway/sse"
)

// Frame is one or more blocks of a stream, inside one HTTP/1.1 chunk (RFC 9112
// section 7.1): a chunked stream sends all of it, any other stream the inside.
//
//	1e\r\n                        chunk-size of the block
//	event: hi\ndata: there\n\n    the block
//	\r\n
//
// The zero Frame is none.
type Frame struct {
	bytes []byte
	// The inside is bytes[before : len(bytes)-after].
	before, after uint8
	events        uint32 // how many; what is no event is protocol
}

// Shared is a frame that may wait in several queues. All of them hold the same bytes,
// which are to be counted once.
type Shared struct {
	Frame
	queues atomic.Int32
}

// Join says that the frame waits in one more queue, and whether that is the first.
func (s *Shared) Join() (first bool) { return s.queues.Add(1) == 1 }

// Leave says that it waits in one queue less, and whether that was the last.
func (s *Shared) Leave() (last bool) { return s.queues.Add(-1) == 0 }

// Event encodes an event.
func Event(e sse.Event) Frame {
	f := open(e.Len())
	f.bytes = e.AppendTo(f.bytes)
	return f.close(1)
}

// Block encloses a block that is no event.
func Block(block []byte) Frame {
	f := open(len(block))
	f.bytes = append(f.bytes, block...)
	return f.close(0)
}

// Head is the head of an HTTP/1.x response, which no chunk encloses.
func Head(head []byte) Frame { return Frame{bytes: head} }

// Opening joins the head of a response, or none, and the frame behind it, or none, for one
// write to a stream that is chunked or not. It may use the room behind the head's bytes.
func Opening(head, first Frame, chunked bool) Frame {
	if head.IsZero() {
		return first
	}
	return Frame{bytes: append(head.bytes, first.Wire(chunked)...), events: first.events}
}

// End is the last chunk: with it a clean end can be told from a cut. It has nothing inside.
var End = Frame{bytes: []byte("0\r\n\r\n"), before: 5}

// Join makes one frame of several, for one write. Each event stays an event.
func Join(frames []Frame) Frame {
	if len(frames) == 1 {
		return frames[0]
	}
	n, events := 0, uint32(0)
	for _, f := range frames {
		n += f.Len()
		events += f.events
	}
	joined := open(n)
	for _, f := range frames {
		joined.bytes = append(joined.bytes, f.Wire(false)...)
	}
	return joined.close(events)
}

// open starts a frame with room for n bytes inside.
func open(n int) Frame {
	var size [16]byte
	s := append(strconv.AppendInt(size[:0], int64(n), 16), "\r\n"...)
	return Frame{bytes: append(make([]byte, 0, len(s)+n+2), s...), before: uint8(len(s)), after: 2} //nolint:gosec // at most 18
}

func (f Frame) close(events uint32) Frame {
	f.bytes = append(f.bytes, "\r\n"...)
	f.events = events
	return f
}

// Len is the length of the inside in bytes.
func (f Frame) Len() int { return len(f.bytes) - int(f.before) - int(f.after) }

// Size is how many bytes the frame holds, its framing included.
func (f Frame) Size() int { return len(f.bytes) }

// Events is how many events it holds.
func (f Frame) Events() int { return int(f.events) }

// IsZero says that it is none.
func (f Frame) IsZero() bool { return f.bytes == nil }

// Wire is what goes to a stream. Nobody may write to it.
func (f Frame) Wire(chunked bool) []byte {
	if chunked {
		return f.bytes
	}
	return f.bytes[f.before : len(f.bytes)-int(f.after)]
}
