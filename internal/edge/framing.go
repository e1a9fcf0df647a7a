package edge

import (
	"bytes"
	"sync/atomic"
)

// framing looks at the bytes of an HTTP/1 connection for header fields that frame a body. A
// proxy may have read a request with both a Content-Length and a Transfer-Encoding differently,
// so nothing may be read after it (RFC 9112 section 6.1). net/http removes the Content-Length of
// such a request before a handler sees it, so only the bytes show it.
//
// It also keeps the Origin of a request, for the answer to one that no handler sees.
//
// It looks at lines, not at requests, so what it says is about all requests of a connection so
// far.
type framing struct {
	length, encoding atomic.Bool // there has been such a field

	// Used by the reader only.
	name   [len("transfer-encoding")]byte // how the line begins, in lower case
	n      int                            // bytes of name
	skip   bool                           // the rest of the line is no name
	taken  bool                           // but the value of an Origin
	origin []byte                         // the latest. A request without one does not care: no page asks across origins
}

// maxOrigin bounds what is kept of an Origin, in bytes. A browser's is a scheme, a host of at most
// 253 bytes, and a port; a longer one is none.
const maxOrigin = 512

// conflicts reports whether there have been both fields.
func (f *framing) conflicts() bool { return f.length.Load() && f.encoding.Load() }

// scan takes the next bytes.
func (f *framing) scan(p []byte) {
	for len(p) > 0 {
		if f.skip {
			end := bytes.IndexByte(p, '\n')
			if f.taken {
				f.take(p, end)
			}
			if end < 0 {
				return
			}
			p, f.n, f.skip = p[end+1:], 0, false
			continue
		}
		c := p[0]
		p = p[1:]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		switch {
		case c == ':':
			switch string(f.name[:f.n]) {
			case "content-length":
				f.length.Store(true)
			case "transfer-encoding":
				f.encoding.Store(true)
			case "origin":
				f.taken, f.origin = true, f.origin[:0]
			}
			f.skip = true
		case c == '\n':
			f.n = 0
		case f.n == len(f.name), f.n == 0 && c != 'c' && c != 't' && c != 'o':
			f.skip = true
		default:
			f.name[f.n] = c
			f.n++
		}
	}
}

// take keeps what there is of an Origin's value; end is where its line ends in p, -1 if later.
func (f *framing) take(p []byte, end int) {
	if end >= 0 {
		p = p[:end]
	}
	f.origin = append(f.origin, p[:min(len(p), maxOrigin+1-len(f.origin))]...)
	if end < 0 {
		return
	}
	f.taken = false
	if f.origin = bytes.TrimSpace(f.origin); len(f.origin) > maxOrigin {
		f.origin = nil
	}
}
