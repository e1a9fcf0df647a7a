package sse

import (
	"strconv"
	"strings"
)

// Heartbeat is a comment, which clients ignore: it keeps the connection in use
// and makes writes to a dead one fail.
const Heartbeat = ": heartbeat\n\n"

// AppendTo appends the event as it goes on the wire, byte by byte as the
// package comment says. It allocates only to grow dst, and not at all where dst
// has room for [Event.Len] bytes.
//
// A set but empty ID is written as "id: \n": the client's parser removes the one
// space and sets its last event id to the empty string.
func (e Event) AppendTo(dst []byte) []byte {
	if e.Name.s != "" {
		dst = append(dst, "event: "...)
		dst = append(dst, e.Name.s...)
		dst = append(dst, '\n')
	}
	dst = appendID(dst, e.ID)
	dst = appendRetry(dst, e.Retry)
	dst = appendData(dst, e.Data)
	return append(dst, '\n')
}

// Len returns the number of bytes that [Event.AppendTo] appends.
func (e Event) Len() int {
	n := 1 // the empty line
	if e.Name.s != "" {
		n += len("event: \n") + len(e.Name.s)
	}
	if e.ID.set {
		n += len("id: \n") + len(e.ID.s)
	}
	if e.Retry.set {
		n += len("retry: \n") + decimalLen(e.Retry.ms)
	}
	lf, cr, crlf := strings.Count(e.Data, "\n"), strings.Count(e.Data, "\r"), 0
	if cr > 0 {
		crlf = strings.Count(e.Data, "\r\n")
	}
	lines := 1 + lf + cr - crlf
	return n + lines*len("data: \n") + len(e.Data) - lf - cr
}

// AppendID appends a block of only the id, which sets a client's last event id
// without an event. An ID that is not set appends nothing.
func AppendID(dst []byte, id ID) []byte {
	return AppendSettings(dst, Retry{}, id)
}

// AppendRetry appends a block of only the reconnection time, which sets a
// client's without an event. A Retry that is not set appends nothing.
func AppendRetry(dst []byte, r Retry) []byte {
	return AppendSettings(dst, r, ID{})
}

// AppendSettings appends one block of the reconnection time and the id, which sets a
// client's without an event. What is not set is left out; if neither is, it appends nothing.
func AppendSettings(dst []byte, r Retry, id ID) []byte {
	if !r.set && !id.set {
		return dst
	}
	return append(appendID(appendRetry(dst, r), id), '\n')
}

func appendID(dst []byte, id ID) []byte {
	if !id.set {
		return dst
	}
	dst = append(dst, "id: "...)
	dst = append(dst, id.s...)
	return append(dst, '\n')
}

func appendRetry(dst []byte, r Retry) []byte {
	if !r.set {
		return dst
	}
	dst = append(dst, "retry: "...)
	dst = strconv.AppendUint(dst, r.ms, 10)
	return append(dst, '\n')
}

// appendData cuts at LF first and at CR within each piece, so that data of only
// CRs or only LFs takes linear time too.
func appendData(dst []byte, data string) []byte {
	for more := true; more; {
		var piece string
		piece, data, more = strings.Cut(data, "\n")
		if more {
			piece = strings.TrimSuffix(piece, "\r") // CR LF is one line end
		}
		for cr := true; cr; {
			var line string
			line, piece, cr = strings.Cut(piece, "\r")
			dst = append(dst, "data: "...)
			dst = append(dst, line...)
			dst = append(dst, '\n')
		}
	}
	return dst
}

func decimalLen(n uint64) int {
	l := 1
	for ; n >= 10; n /= 10 {
		l++
	}
	return l
}
