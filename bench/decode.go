package bench

import (
	"bytes"
	"errors"
	"fmt"
	"math"
)

// maxLine bounds a line of the head, and of the chunk framing.
const maxLine = 16 << 10

type phase uint8

const (
	inHead phase = iota
	inChunkSize
	inChunk
	inChunkEnd // the line end after a chunk
	inBody     // a body that is not chunked
	atEnd
)

// decoder parses the events of an HTTP/1.1 response, which may arrive in pieces of any size.
type decoder struct {
	phase    phase
	chunked  bool
	left     int    // bytes of this chunk that are still to come
	framing  []byte // the incomplete line of the head or of the chunk framing
	line     []byte // the incomplete line of the stream
	data     []byte // data of the event so far
	hasData  bool
	nextID   []byte // of the event so far
	id       []byte // the position: the id of the last event that had one
	comments int64  // received
}

// opened reports whether the head was received, with status 200.
func (d *decoder) opened() bool { return d.phase != inHead }

// inEvent reports whether an event has begun but not ended.
func (d *decoder) inEvent() bool { return d.hasData || bytes.HasPrefix(d.line, []byte("data")) }

func (d *decoder) decode(b []byte, event func(data []byte), torn func()) error {
	for len(b) > 0 {
		switch d.phase {
		case inHead, inChunkSize, inChunkEnd:
			end := bytes.IndexByte(b, '\n')
			if len(d.framing)+max(end, 0) > maxLine || end < 0 && len(d.framing)+len(b) > maxLine {
				torn()
				return errors.New("a line of the head or of the chunk framing is too long")
			}
			if end < 0 {
				d.framing = append(d.framing, b...)
				return nil
			}
			line := b[:end]
			if len(d.framing) > 0 {
				d.framing = append(d.framing, line...)
				line, d.framing = d.framing, d.framing[:0]
			}
			b = b[end+1:]
			if err := d.frame(bytes.TrimSuffix(line, []byte{'\r'})); err != nil {
				if d.phase != inHead {
					torn()
				}
				return err
			}
		case inChunk:
			n := min(len(b), d.left)
			d.events(b[:n], event, torn)
			b, d.left = b[n:], d.left-n
			if d.left == 0 {
				d.phase = inChunkEnd
			}
		case inBody:
			d.events(b, event, torn)
			return nil
		case atEnd:
			// The empty line after the last chunk, or a trailer: not part of the stream.
			return nil
		}
	}
	return nil
}

// frame parses one line of the head or of the chunk framing.
func (d *decoder) frame(line []byte) error {
	switch d.phase {
	case inChunkSize:
		size, ok := chunkSize(line)
		if !ok {
			return fmt.Errorf("%.40q is not a chunk size", line)
		}
		d.left, d.phase = size, inChunk
		if size == 0 {
			d.phase = atEnd
		}
	case inChunkEnd:
		if len(line) > 0 {
			return fmt.Errorf("%.40q after a chunk, instead of a line end", line)
		}
		d.phase = inChunkSize
	case inHead:
		name, value, field := bytes.Cut(line, []byte{':'})
		switch {
		case bytes.HasPrefix(line, []byte("HTTP/")):
			if _, status, _ := bytes.Cut(line, []byte{' '}); !bytes.HasPrefix(status, []byte("200")) {
				return fmt.Errorf("the stream was refused: %.80q", line)
			}
		case len(line) == 0 && d.chunked:
			d.phase = inChunkSize
		case len(line) == 0:
			d.phase = inBody
		case !field:
			return fmt.Errorf("%.40q in the head is not a header field", line)
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			d.chunked = bytes.EqualFold(bytes.TrimSpace(value), []byte("chunked"))
		}
	case inChunk, inBody, atEnd:
	}
	return nil
}

// chunkSize parses the hexadecimal size of a chunk, up to its extensions, if any.
func chunkSize(line []byte) (size int, ok bool) {
	for i, c := range line {
		switch {
		case '0' <= c && c <= '9':
			size = size<<4 | int(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			size = size<<4 | int(c|0x20-'a'+10)
		default:
			return size, i > 0 && (c == ';' || c == ' ' || c == '\t')
		}
		if size > math.MaxInt32 {
			return 0, false
		}
	}
	return size, len(line) > 0
}

// events parses bytes of the event stream. Lines end in LF or CRLF.
func (d *decoder) events(b []byte, event func(data []byte), torn func()) {
	for {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			d.line = append(d.line, b...)
			return
		}
		line := b[:end]
		if len(d.line) > 0 {
			d.line = append(d.line, line...)
			line, d.line = d.line, d.line[:0]
		}
		b = b[end+1:]
		line = bytes.TrimSuffix(line, []byte{'\r'})
		switch field, value, _ := bytes.Cut(line, []byte{':'}); string(field) {
		case "data":
			if d.hasData {
				d.data = append(d.data, '\n')
			}
			d.data, d.hasData = append(d.data, bytes.TrimPrefix(value, []byte{' '})...), true
		case "id":
			d.nextID = append(d.nextID[:0], bytes.TrimPrefix(value, []byte{' '})...)
		case "event", "retry":
		case "":
			if len(line) > 0 {
				d.comments++
				break
			}
			if len(d.nextID) > 0 {
				d.id, d.nextID = append(d.id[:0], d.nextID...), d.nextID[:0]
			}
			if d.hasData { // a block without data is not an event
				event(d.data)
				d.data, d.hasData = d.data[:0], false
			}
		default:
			torn() // not a field, so the rest of a torn line
		}
	}
}
