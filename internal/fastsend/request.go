package fastsend

import (
	"bytes"
	"strings"
)

// requestLine is the only one that is served here (RFC 9112 section 3).
const (
	target      = "/internal/send"
	requestLine = "POST " + target + " HTTP/1.1\r\n"
)

// Bounds of a request that is served here: bytes of its head, bytes of the whole request, and
// header fields. They are far below the bound of a head that net/http's handlers check.
const (
	maxHead    = 16 << 10
	maxRequest = 64 << 10
	maxFields  = 256
)

// verdict is the result of parsing the bytes that have come.
type verdict uint8

const (
	// unfinished: more bytes may complete a request that is served here.
	unfinished verdict = iota
	// complete: a whole request that is served here.
	complete
	// foreign: left to net/http.
	foreign
)

// request is a complete request. It shares the bytes it was parsed from.
type request struct {
	body          []byte
	host          []byte // value of the header field
	authorization []byte // value of the header field; nil: there is none
	traceparent   []byte // the same
	tracestate    []byte // the same
	length        int    // of the whole request
}

// parse parses a request at the beginning of b. It accepts only what net/http would parse
// in the same way, and only header fields that change nothing about how a send is handled.
// A malformed or unusual request is foreign.
func parse(b []byte) (r request, v verdict) {
	if n := min(len(b), len(requestLine)); string(b[:n]) != requestLine[:n] {
		return r, foreign
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) >= maxHead {
			return r, foreign
		}
		return r, unfinished
	}
	if end >= maxHead {
		return r, foreign
	}
	length, ok := r.parseFields(b[len(requestLine) : end+2])
	if end += 4; !ok || length > maxRequest-end {
		return r, foreign
	}
	if len(b) < end+length {
		return r, unfinished
	}
	r.body, r.length = b[end:end+length], end+length
	return r, complete
}

// afterLineEnds returns what follows the line ends at the beginning of b. Old clients send some behind the
// body of a POST. net/http takes four bytes of them, and no more.
func afterLineEnds(b []byte) []byte {
	for n := 0; n < 4 && len(b) > 0 && (b[0] == '\r' || b[0] == '\n'); n++ {
		b = b[1:]
	}
	return b
}

// parseFields reads the lines of the header (RFC 9112 section 5), each with its CRLF.
func (r *request) parseFields(lines []byte) (length int, ok bool) {
	length = -1
	typed := false
	for fields := 1; len(lines) > 0; fields++ {
		end := bytes.IndexByte(lines, '\n')
		if end < 1 || lines[end-1] != '\r' {
			return 0, false
		}
		line := lines[:end-1]
		lines = lines[end+1:]
		colon := bytes.IndexByte(line, ':')
		if colon < 1 || !isToken(line[:colon]) || fields > maxFields {
			return 0, false
		}
		value := bytes.Trim(line[colon+1:], " \t")
		if !isFieldValue(value) {
			return 0, false
		}
		switch meaningOf(line[:colon]) {
		case meansNothing:
		case meansHost:
			if r.host != nil || !isHost(value) {
				return 0, false
			}
			r.host = value
		case meansLength:
			if length >= 0 {
				return 0, false
			}
			if length = parseLength(value); length < 0 {
				return 0, false
			}
		case meansType:
			if typed || !isJSON(string(value)) {
				return 0, false
			}
			typed = true
		case meansConnection:
			if !strings.EqualFold(string(value), "keep-alive") {
				return 0, false
			}
		case meansAuthorization:
			if r.authorization != nil || len(value) == 0 {
				return 0, false
			}
			r.authorization = value
		case meansTraceparent:
			if r.traceparent != nil {
				return 0, false
			}
			r.traceparent = value
		case meansTracestate:
			if r.tracestate != nil {
				return 0, false
			}
			r.tracestate = value
		case meansMore:
			return 0, false
		}
	}
	return length, r.host != nil && typed && length >= 0
}

// isJSON reports whether a Content-Type is one of the two usual forms of JSON's.
func isJSON(contentType string) bool {
	return contentType == "application/json" || strings.EqualFold(contentType, "application/json; charset=utf-8")
}

// meaning is what a header field means for a send.
type meaning uint8

const (
	meansNothing meaning = iota
	meansHost
	meansLength
	meansType
	meansConnection
	meansAuthorization
	meansTraceparent
	meansTracestate
	meansMore // left to net/http: fields of framing, of proxies and of browsers
)

var meanings = map[string]meaning{
	"host": meansHost, "content-length": meansLength, "content-type": meansType,
	"connection": meansConnection, "authorization": meansAuthorization,
	"traceparent": meansTraceparent, "tracestate": meansTracestate,
	"transfer-encoding": meansMore, "trailer": meansMore, "te": meansMore, "upgrade": meansMore, "expect": meansMore,
	"content-encoding": meansMore, "proxy-connection": meansMore, "http2-settings": meansMore,
	"forwarded": meansMore, "via": meansMore, "cdn-loop": meansMore,
	"x-real-ip": meansMore, "x-client-ip": meansMore, "true-client-ip": meansMore, "cf-connecting-ip": meansMore, "fastly-client-ip": meansMore,
	"origin": meansMore, "sec-fetch-site": meansMore,
}

// longestName is the length of the longest name in meanings; a longer name means nothing.
const longestName = len("transfer-encoding")

func meaningOf(name []byte) meaning {
	const forwarded = "x-forwarded-"
	if len(name) >= len(forwarded) && strings.EqualFold(string(name[:len(forwarded)]), forwarded) {
		return meansMore
	}
	if len(name) > longestName {
		return meansNothing
	}
	var lower [longestName]byte
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	return meanings[string(lower[:len(name)])]
}

// isToken reports whether a field's name is a token (RFC 9110 section 5.6.2).
func isToken(name []byte) bool {
	for _, c := range name {
		if c >= 128 || !tokenChars[c] {
			return false
		}
	}
	return true
}

var tokenChars = func() (is [128]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") {
		is[c] = true
	}
	return is
}()

// isFieldValue reports whether a value has no control characters (RFC 9110 section 5.5).
func isFieldValue(value []byte) bool {
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// isHost reports whether a value consists of the characters of a usual Host.
func isHost(value []byte) bool {
	for _, c := range value {
		switch {
		case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z':
		case c == '.', c == '-', c == '_', c == ':', c == '[', c == ']':
		default:
			return false
		}
	}
	return len(value) > 0
}

// parseLength parses a Content-Length of at most five digits; it returns -1 for anything else.
func parseLength(value []byte) int {
	if len(value) == 0 || len(value) > len("65536") {
		return -1
	}
	n := 0
	for _, c := range value {
		if c < '0' || c > '9' {
			return -1
		}
		n = 10*n + int(c-'0')
	}
	return n
}
