package sse

import (
	"bytes"
	"errors"
	"io"
	"math"
	"unicode/utf8"
)

// DefaultMaxLen is the longest block, in bytes, that a [NewDecoder] reads.
const DefaultMaxLen = 16 << 20

// ErrTooLong is returned by [Decoder.Next] for a block over the decoder's limit.
var ErrTooLong = errors.New("sse: event is longer than the decoder's limit")

// minBuffer is the initial size of the read buffer; it doubles for longer lines.
const minBuffer = 4 << 10

// Decoder reads a stream of events, as the HTML standard says a browser must.
// An event is returned as soon as its empty line has ended, even by a CR that may be
// half of a CR LF. A Decoder is not safe for concurrent use.
type Decoder struct {
	r       io.Reader
	readErr error // what r ended with; buffered lines come first
	err     error // what Next ended with, for good
	max     int

	// buf[pos:end] is read but not consumed. lf and cr are the places of the
	// first LF and CR in it, or end where it has none: each byte is searched once.
	buf      []byte
	pos, end int
	lf, cr   int
	afterCR  bool // an LF at pos belongs to the CR before it
	started  bool // past the first line, which may have a BOM
	lines    int  // consumed

	block int    // bytes of the unfinished block, comments left out
	data  []byte // the standard's "data buffer"
	name  []byte // its "event type buffer"
	id    ID     // its "last event ID buffer"
	hasID bool   // the unfinished block has an id of its own
	gave  bool   // the block that was returned last has
	retry Retry  // of the unfinished block

	lastName  Name // of the event before: streams repeat few names
	lastID    ID
	lastRetry Retry
}

// NewDecoder returns a Decoder that reads from r with the limit [DefaultMaxLen].
func NewDecoder(r io.Reader) *Decoder { return NewDecoderMax(r, DefaultMaxLen) }

// NewDecoderMax returns a Decoder that reads from r and accepts blocks of up to limit bytes: the lines
// through the next empty one, each with one byte for its end, comments only while
// they last. So every [Event] whose [Event.Len] is at most the limit is
// accepted. Memory is bounded by a small multiple of the limit.
func NewDecoderMax(r io.Reader, limit int) *Decoder {
	return &Decoder{r: r, max: limit}
}

// LastEventID returns the standard's "last event ID string": the id that a client
// would reconnect with. Blocks of only an id set it too. It is set, perhaps
// empty, once the stream has had an id.
func (d *Decoder) LastEventID() ID { return d.lastID }

// GaveID reports whether the block that was returned last has an id of its own. Otherwise the
// id of its event is that of one before.
func (d *Decoder) GaveID() bool { return d.gave }

// Retry returns the last reconnection time that was read; not set if there was none.
func (d *Decoder) Retry() Retry { return d.lastRetry }

// Line returns how many lines have been consumed: the number of the line that ended the
// event that Next gave last.
func (d *Decoder) Line() int { return d.lines }

// Unfinished reports, at the end of the stream, whether an event without its empty line
// was dropped.
func (d *Decoder) Unfinished() bool { return d.block > 0 || d.pos < d.end }

// Next returns the next event, or [io.EOF] at the end of the stream. A last event
// without its empty line is dropped, as the standard says. Errors of the reader are
// returned unchanged, and every error is final.
//
// The event's ID is the last one of the stream, even if an earlier event set it; its
// Retry is that of its own block. A retry over 64 bits is read as the greatest uint64.
func (d *Decoder) Next() (Event, error) {
	for {
		e, isEvent, err := d.NextBlock()
		if isEvent || err != nil {
			return e, err
		}
	}
}

// NextBlock is Next, but also returns blocks without data that set an id or a
// reconnection time. These are no events; the Event holds only what they set.
func (d *Decoder) NextBlock() (e Event, isEvent bool, err error) {
	for d.err == nil {
		line, err := d.line()
		if err != nil {
			d.err = err
			break
		}
		if len(line) > 0 {
			d.field(line)
			continue
		}
		if e, isEvent = d.dispatch(); isEvent || e.ID.set || e.Retry.set {
			return e, isEvent, nil
		}
	}
	return Event{}, false, d.err
}

// line returns the next line without its end, valid until the next call.
func (d *Decoder) line() ([]byte, error) {
	for {
		if d.afterCR && d.pos < d.end {
			d.afterCR = false
			if d.buf[d.pos] == '\n' {
				d.pos++
			}
		}
		d.lf = d.seek(d.lf, '\n')
		d.cr = d.seek(d.cr, '\r')
		stop := min(d.lf, d.cr)
		if d.block+(stop-d.pos)+1 > d.max {
			return nil, ErrTooLong
		}
		if stop < d.end {
			line := d.buf[d.pos:stop]
			d.afterCR = d.buf[stop] == '\r'
			d.pos = stop + 1
			d.lines++
			if !d.started {
				d.started = true
				line = bytes.TrimPrefix(line, []byte("\uFEFF")) // the one of "UTF-8 decode"
			}
			return line, nil
		}
		if err := d.fill(); err != nil {
			return nil, err
		}
	}
}

// seek moves from, before which there is no c, on to the first c, or to end.
func (d *Decoder) seek(from int, c byte) int {
	from = max(from, d.pos)
	if from < d.end && d.buf[from] == c {
		return from
	}
	if i := bytes.IndexByte(d.buf[from:d.end], c); i >= 0 {
		return from + i
	}
	return d.end
}

// fill reads once, behind what is left of the buffer.
func (d *Decoder) fill() error {
	if d.pos > 0 {
		copy(d.buf, d.buf[d.pos:d.end])
		d.end -= d.pos
		d.lf -= d.pos
		d.cr -= d.pos
		d.pos = 0
	}
	if d.end == len(d.buf) {
		buf := make([]byte, max(minBuffer, 2*len(d.buf)))
		copy(buf, d.buf)
		d.buf = buf
	}
	for range 100 { // as bufio does with a reader that gives neither bytes nor an error
		if d.readErr != nil {
			return d.readErr
		}
		var n int
		n, d.readErr = d.r.Read(d.buf[d.end:])
		if n > 0 {
			d.end += n
			return nil
		}
	}
	return io.ErrNoProgress
}

// field is "process the field" for a line that is not empty.
func (d *Decoder) field(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	if len(name) == 0 {
		return // a comment
	}
	d.block += len(line) + 1
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "event":
		d.name = appendUTF8(d.name[:0], value)
	case "data":
		d.data = append(appendUTF8(d.data, value), '\n')
	case "id":
		if bytes.IndexByte(value, 0) < 0 && (!d.id.set || d.id.s != string(value)) {
			d.id = ID{string(appendUTF8(nil, value)), true}
		}
		d.hasID = d.hasID || bytes.IndexByte(value, 0) < 0
	case "retry":
		if ms, ok := parseDigits(value); ok {
			d.retry = RetryMillis(ms)
			d.lastRetry = d.retry
		}
	}
}

// dispatch is "dispatch the event", and the end of a block in any case. Of a block that is
// no event it returns what the block sets.
func (d *Decoder) dispatch() (e Event, ok bool) {
	d.lastID = d.id
	if len(d.data) > 0 {
		if d.lastName.s != string(d.name) {
			d.lastName = Name{string(d.name)}
		}
		e = Event{d.lastName, d.id, d.retry, string(d.data[:len(d.data)-1])}
		ok = true
	} else {
		e.Retry = d.retry
		if d.hasID {
			e.ID = d.id
		}
	}
	d.gave = d.hasID
	d.block, d.data, d.name, d.retry, d.hasID = 0, d.data[:0], d.name[:0], Retry{}, false
	return e, ok
}

// parseDigits returns the value of ASCII digits, at most the greatest uint64; "" is
// no number.
func parseDigits(s []byte) (n uint64, ok bool) {
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		digit := uint64(c - '0')
		if n > (math.MaxUint64-digit)/10 {
			n = math.MaxUint64
			continue
		}
		n = 10*n + digit
	}
	return n, len(s) > 0
}

// appendUTF8 appends s by the "UTF-8 decode" of the Encoding standard: the longest part of an
// invalid sequence that could have begun a valid one becomes one U+FFFD. Lines can be decoded one
// by one, as no sequence contains a line end.
func appendUTF8(dst, s []byte) []byte {
	if utf8.Valid(s) {
		return append(dst, s...)
	}
	for len(s) > 0 {
		r, n := utf8.DecodeRune(s)
		if r == utf8.RuneError && n == 1 {
			n = invalidLen(s)
			dst = append(dst, "\uFFFD"...)
		} else {
			dst = append(dst, s[:n]...)
		}
		s = s[n:]
	}
	return dst
}

// invalidLen returns how many bytes of an invalid sequence the "UTF-8 decoder" takes
// for its one error: the lead byte and what may follow it.
func invalidLen(s []byte) int {
	need, lower, upper := 0, byte(0x80), byte(0xBF)
	switch c := s[0]; {
	case 0xC2 <= c && c <= 0xDF:
		need = 1
	case 0xE0 <= c && c <= 0xEF:
		need = 2
		switch c {
		case 0xE0:
			lower = 0xA0 // not overlong
		case 0xED:
			upper = 0x9F // no surrogate
		}
	case 0xF0 <= c && c <= 0xF4:
		need = 3
		switch c {
		case 0xF0:
			lower = 0x90
		case 0xF4:
			upper = 0x8F // not over U+10FFFF
		}
	}
	n := 1
	for ; n <= need && n < len(s) && lower <= s[n] && s[n] <= upper; n++ {
		lower, upper = 0x80, 0xBF
	}
	return n
}
