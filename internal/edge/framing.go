package edge

import (
	"bytes"
	"math"
	"sync/atomic"
)

// framing follows the requests of an HTTP/1 connection by their bytes, and finds the one whose length a proxy may have
// read differently: it has a Content-Length and a Transfer-Encoding, or is of HTTP/1.0 and has a Transfer-Encoding. Nothing
// may be read after it (RFC 9112 section 6.1). net/http removes the field that does not count before a handler sees the
// request, so only the bytes show it.
//
// It also keeps the Origin of a request, for the answer to one that no handler sees.
//
// It takes some bytes for a request that net/http refuses. Nothing comes of that: no handler sees what follows.
type framing struct {
	uncertain atomic.Uint32 // the number of that request, from 1; 0: none

	// Used by the reader only.
	requests uint32 // whose heads have come whole
	state    framingState
	field    framingField                   // whose value comes
	last     byte                           // of the request line
	name     [len("transfer-encoding")]byte // how the line begins, in lower case
	n        uint8                          // bytes of name
	length   bool                           // the head has a Content-Length,
	encoding bool                           // and a Transfer-Encoding
	trailer  bool                           // it is no head
	left     int64                          // bytes of the body, or of the chunk; while its length is read, that
	origin   []byte                         // the latest. A request without one does not care: no page asks across origins
}

// framingState is what the next byte belongs to.
type framingState uint8

const (
	beforeRequest framingState = iota // where empty lines are passed over
	inRequestLine
	atLine      // the first byte of a line of a head or trailer
	inEmptyLine // behind a CR there
	inName
	inValue
	inBody
	inChunkSize
	inChunkLine // the rest of that line
	inChunk
)

type framingField uint8

const (
	otherField framingField = iota
	lengthField
	originField
)

// maxOrigin bounds what is kept of an Origin, in bytes. A browser's is a scheme, a host of at most
// 253 bytes, and a port; a longer one is none.
const maxOrigin = 512

// scan takes the next bytes.
func (f *framing) scan(p []byte) {
	for len(p) > 0 {
		switch f.state {
		case beforeRequest:
			if p = bytes.TrimLeft(p, "\r\n"); len(p) > 0 {
				f.state = inRequestLine
			}
		case inRequestLine:
			p = f.scanRequestLine(p)
		case atLine, inEmptyLine, inName:
			p = f.scanName(p)
		case inValue:
			p = f.scanValue(p)
		case inBody, inChunk:
			n := min(int64(len(p)), f.left)
			p = p[n:]
			if f.left -= n; f.left > 0 {
				return
			}
			if f.state == inBody {
				f.state = beforeRequest
			} else {
				f.state = inChunkSize
			}
		case inChunkSize, inChunkLine:
			p = f.scanChunkSize(p)
		}
	}
}

func (f *framing) scanRequestLine(p []byte) []byte {
	line, rest, found := bytes.Cut(p, lineEnd)
	if line = bytes.TrimRight(line, "\r"); len(line) > 0 {
		f.last = line[len(line)-1]
	}
	if found {
		f.state, f.length, f.encoding, f.trailer, f.left = atLine, false, false, false, 0
	}
	return rest
}

var lineEnd = []byte("\n")

// scanName takes the beginning of a line, up to the ":". What is no name of a field that counts is a value already.
func (f *framing) scanName(p []byte) []byte {
	for i, c := range p {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		switch {
		case c == '\n' && f.state != inName:
			f.endHead()
			return p[i+1:]
		case f.state == atLine && c == '\r':
			f.state = inEmptyLine
			continue
		case f.state == atLine && (c == ' ' || c == '\t'): // goes on with the value of the line before
			f.state = inValue
			return p[i:]
		case c == '\n':
			f.startLine()
			continue
		case c == ':' && f.state == inName:
			f.named()
			return p[i+1:]
		case f.state == inEmptyLine, f.state == atLine && c != 'c' && c != 't' && c != 'o', f.n == uint8(len(f.name)):
			f.state, f.field = inValue, otherField
			return p[i:]
		}
		f.state = inName
		f.name[f.n] = c
		f.n++
	}
	return nil
}

func (f *framing) startLine() { f.state, f.n = atLine, 0 }

// named is called at the ":" of a field.
func (f *framing) named() {
	f.state, f.field = inValue, otherField
	if f.trailer {
		return
	}
	switch string(f.name[:f.n]) {
	case "content-length":
		f.field, f.length, f.left = lengthField, true, 0
	case "transfer-encoding":
		f.encoding = true
	case "origin":
		f.field, f.origin = originField, f.origin[:0]
	}
}

// scanValue takes the rest of a line.
func (f *framing) scanValue(p []byte) []byte {
	value, rest, found := bytes.Cut(p, lineEnd)
	switch f.field {
	case lengthField:
		for _, c := range value {
			if '0' <= c && c <= '9' {
				f.left = longer(f.left, 10, int64(c-'0'))
			}
		}
	case originField:
		f.origin = append(f.origin, value[:min(len(value), maxOrigin+1-len(f.origin))]...)
		if found {
			if f.origin = bytes.TrimSpace(f.origin); len(f.origin) > maxOrigin {
				f.origin = nil
			}
		}
	case otherField:
	}
	if found {
		f.startLine()
	}
	return rest
}

// longer appends a digit to a number. What is too large for one stays at the largest.
func longer(n, base, digit int64) int64 {
	if n > (math.MaxInt64-digit)/base {
		return math.MaxInt64
	}
	return n*base + digit
}

// endHead is called at the empty line behind a head or a trailer.
func (f *framing) endHead() {
	f.startLine()
	if f.trailer {
		f.state = beforeRequest
		return
	}
	f.requests++
	isOld := f.last == '0' // HTTP/1.0
	switch {
	case f.encoding && (f.length || isOld):
		f.uncertain.CompareAndSwap(0, f.requests)
		f.state = beforeRequest // there is none
	case f.encoding:
		f.state, f.left = inChunkSize, 0
	case f.left > 0:
		f.state = inBody
	default:
		f.state = beforeRequest
	}
}

// scanChunkSize takes the line before a chunk: its size, perhaps with extensions.
func (f *framing) scanChunkSize(p []byte) []byte {
	for i, c := range p {
		digit := int64(-1)
		switch {
		case '0' <= c && c <= '9':
			digit = int64(c - '0')
		case 'a' <= c && c <= 'f':
			digit = int64(c-'a') + 10
		case 'A' <= c && c <= 'F':
			digit = int64(c-'A') + 10
		}
		switch {
		case c == '\n' && f.left == 0:
			f.startLine()
			f.trailer = true
			return p[i+1:]
		case c == '\n':
			f.state, f.left = inChunk, longer(f.left, 1, int64(len("\r\n")))
			return p[i+1:]
		case f.state == inChunkLine:
		case digit < 0:
			f.state = inChunkLine
		default:
			f.left = longer(f.left, 16, digit)
		}
	}
	return nil
}
