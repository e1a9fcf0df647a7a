package edge

import (
	"bytes"
	"sync/atomic"
)

// framing looks at the bytes of an HTTP/1 connection for header fields that frame a body. A
// request with both a Content-Length and a Transfer-Encoding may have been read otherwise by
// who relayed it, so nothing may be read behind it (RFC 9112 section 6.1). net/http removes the
// Content-Length of such a request before a handler sees it: only the bytes tell.
//
// It looks at lines, not at requests, so what it says is about all requests of a connection so
// far. Over TLS there is nothing to see.
type framing struct {
	length, encoding atomic.Bool // there was such a field

	// Of who reads.
	name [len("transfer-encoding")]byte // how the line begins, in lower case
	n    int                            // bytes of name
	skip bool                           // the rest of the line is no name
}

// conflicts reports whether there have been both fields.
func (f *framing) conflicts() bool { return f.length.Load() && f.encoding.Load() }

// scan takes the next bytes.
func (f *framing) scan(p []byte) {
	for len(p) > 0 {
		if f.skip {
			end := bytes.IndexByte(p, '\n')
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
			}
			f.skip = true
		case c == '\n':
			f.n = 0
		case f.n == len(f.name), f.n == 0 && c != 'c' && c != 't':
			f.skip = true
		default:
			f.name[f.n] = c
			f.n++
		}
	}
}
