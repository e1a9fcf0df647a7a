// Package frame holds pieces of streams as they go on the wire: encoded once and
// never changed, so that the same bytes go to every stream that gets them.
package frame

import (
	"strconv"
	"sync/atomic"

	"ssegateway/sse"
)

// Frame is one or more blocks of a stream, inside one HTTP/1.1 chunk (RFC 9112
// section 7.1). A chunked stream sends all of it, any other stream only the blocks.
//
//	1e\r\n                        chunk-size of the block
//	event: hi\ndata: there\n\n    the block
//	\r\n
//
// The zero Frame is no frame (see IsZero).
type Frame struct {
	bytes []byte
	// The blocks, without the chunk's framing, are bytes[before : len(bytes)-after].
	before, after uint8
	events        uint32 // number of events; other blocks are protocol
}

// Shared is a frame that may wait in several queues. All of them hold the same bytes, which
// are counted once.
type Shared struct {
	Frame
	queues atomic.Int32
}

// Join counts one more queue that the frame waits in, and reports whether it is the first.
func (s *Shared) Join() (first bool) { return s.queues.Add(1) == 1 }

// Leave counts one queue less, and reports whether it was the last.
func (s *Shared) Leave() (last bool) { return s.queues.Add(-1) == 0 }

// Event encodes an event.
func Event(e sse.Event) Frame {
	f := open(e.Len())
	f.bytes = e.AppendTo(f.bytes)
	return f.close(1)
}

// Block makes a frame of a block that is not an event.
func Block(block []byte) Frame {
	f := open(len(block))
	f.bytes = append(f.bytes, block...)
	return f.close(0)
}

// Blocks makes a frame of whole blocks, of which that many are events.
func Blocks(blocks []byte, events int) Frame {
	f := open(len(blocks))
	f.bytes = append(f.bytes, blocks...)
	return f.close(uint32(events)) //nolint:gosec // not negative
}

// Room returns how many bytes Within needs for blocks of n bytes.
func Room(n int) int { return n + 20 }

// Within is Blocks for blocks that are in pieces, and puts the frame into b, behind what is there. It returns b with it;
// that part must not be changed.
func Within(b []byte, events int, pieces ...[]byte) ([]byte, Frame) {
	n, start := 0, len(b)
	for _, p := range pieces {
		n += len(p)
	}
	b = append(strconv.AppendInt(b, int64(n), 16), "\r\n"...)
	f := Frame{before: uint8(len(b) - start), after: 2, events: uint32(events)} //nolint:gosec // at most 18; not negative
	for _, p := range pieces {
		b = append(b, p...)
	}
	b = append(b, "\r\n"...)
	f.bytes = b[start:len(b):len(b)]
	return b, f
}

// Head makes a frame of the head of an HTTP/1.x response, without a chunk around it.
func Head(head []byte) Frame { return Frame{bytes: head} }

// Opening joins the head of a response and the frame behind it for one write to a stream,
// which is chunked or not. Either may be zero. It may use spare capacity of the head's bytes.
func Opening(head, first Frame, chunked bool) Frame {
	if head.IsZero() {
		return first
	}
	return Frame{bytes: append(head.bytes, first.Wire(chunked)...), events: first.events}
}

// End is the last chunk, which distinguishes a clean end from a cut. It has no blocks.
var End = Frame{bytes: []byte("0\r\n\r\n"), before: 5}

// Join makes one frame of several, for one write. The number of events stays the same.
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

// open starts a frame with capacity for n bytes of blocks.
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

// Len returns the length of the blocks in bytes, without framing.
func (f Frame) Len() int { return len(f.bytes) - int(f.before) - int(f.after) }

// Size returns the length in bytes, including the framing.
func (f Frame) Size() int { return len(f.bytes) }

// Events returns the number of events.
func (f Frame) Events() int { return int(f.events) }

// IsZero reports whether f is the zero Frame.
func (f Frame) IsZero() bool { return f.bytes == nil }

// Wire returns the bytes to send to a stream. They must not be changed.
func (f Frame) Wire(chunked bool) []byte {
	if chunked {
		return f.bytes
	}
	return f.bytes[f.before : len(f.bytes)-int(f.after)]
}
