package server

import (
	"bytes"
	"strings"
)

// conflictingFraming says whether the head of an HTTP/1 request has both a Content-Length and
// a Transfer-Encoding. Who relayed it may have read its end otherwise than we do, so nothing
// may be read behind it (RFC 9112 section 6.1). net/http removes the Content-Length of such
// a request before a handler sees it: only the bytes tell.
//
// head is at least the request line and the fields; what follows the empty line is not looked at.
func conflictingFraming(head []byte) bool {
	length, encoding := false, false
	for first := true; ; first = false {
		line, rest, more := bytes.Cut(head, []byte("\n"))
		if line = bytes.TrimSuffix(line, []byte("\r")); len(line) == 0 && !first {
			return false
		}
		// A folded line has no name: it is not one of these fields, but the rest of one.
		if name, _, ok := bytes.Cut(line, []byte(":")); ok && !first {
			length = length || strings.EqualFold(string(name), "Content-Length")
			encoding = encoding || strings.EqualFold(string(name), "Transfer-Encoding")
		}
		if length && encoding {
			return true
		}
		if !more {
			return false
		}
		head = rest
	}
}
