package callback

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
)

// plainAnswer reads the head of a plain answer to a callback, for a fraction of what the parser of net/http costs. It
// returns nil, and has read nothing, for any other one: that is left to net/http. A plain answer is of HTTP/1.1, its head
// is in the buffer as a whole, and it has a Content-Length and no field that means more (see meanings). Its Header is nil.
func plainAnswer(in *bufio.Reader) *http.Response {
	b, _ := in.Peek(in.Buffered())
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return nil
	}
	lines := b[:end+2]
	status := plainStatus(lines)
	if status == 0 {
		return nil
	}
	length := -1
	for lines = after(lines); len(lines) > 0; lines = after(lines) {
		line := lines[:bytes.IndexByte(lines, '\n')]
		name, value, ok := plainField(line)
		if !ok {
			return nil
		}
		switch meaningOf(name) {
		case meansNothing:
		case meansLength:
			if length >= 0 {
				return nil
			}
			if length = plainLength(value); length < 0 {
				return nil
			}
		case meansKeepAlive:
			if !strings.EqualFold(string(value), "keep-alive") {
				return nil
			}
		case meansMore:
			return nil
		}
	}
	if length < 0 {
		return nil
	}
	_, _ = in.Discard(end + len("\r\n\r\n")) // cannot fail: they are in the buffer
	r := &http.Response{StatusCode: status, ContentLength: int64(length), Body: http.NoBody}
	if length > 0 {
		r.Body = &plainBody{in, length}
	}
	return r
}

// after returns what follows the first line.
func after(lines []byte) []byte { return lines[bytes.IndexByte(lines, '\n')+1:] }

// plainStatus returns the status of the first line (RFC 9112 section 4). It returns 0 if the line is malformed, or an
// answer with that status has no body, or is not the final one.
func plainStatus(lines []byte) int {
	const version = "HTTP/1.1 "
	line := lines[:bytes.IndexByte(lines, '\n')]
	rest, ok := bytes.CutPrefix(line, []byte(version))
	if !ok || len(rest) < len("200\r") || rest[len(rest)-1] != '\r' || !isText(rest[:len(rest)-1]) {
		return 0
	}
	status := 0
	for _, c := range rest[:3] {
		if c < '0' || c > '9' {
			return 0
		}
		status = 10*status + int(c-'0')
	}
	if rest[3] != ' ' && rest[3] != '\r' || status < 200 || status == http.StatusNoContent || status == http.StatusNotModified {
		return 0
	}
	return status
}

// plainField splits a line of the header, which has to end in CR. ok is false if net/http could read it differently.
func plainField(line []byte) (name, value []byte, ok bool) {
	colon := bytes.IndexByte(line, ':')
	if colon < 1 || line[len(line)-1] != '\r' {
		return nil, nil, false
	}
	for _, c := range line[:colon] {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return nil, nil, false
		}
	}
	value = bytes.Trim(line[colon+1:len(line)-1], " \t")
	return line[:colon], value, isText(value)
}

// isText reports whether b has no control characters, apart from tabs.
func isText(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// plainLength parses a Content-Length of at most nine digits; it returns -1 for anything else.
func plainLength(value []byte) int {
	if len(value) == 0 || len(value) > 9 {
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

// meaning is what a field means for the answer to a callback.
type meaning uint8

const (
	meansNothing meaning = iota
	meansLength
	meansKeepAlive
	meansMore // left to net/http
)

var meanings = []struct {
	name string
	meaning
}{
	{"content-length", meansLength},
	{"connection", meansKeepAlive},
	{"transfer-encoding", meansMore},
	{"trailer", meansMore},
	{"upgrade", meansMore},
	{"location", meansMore},
	{"www-authenticate", meansMore},
	{"retry-after", meansMore},
	{"set-cookie", meansMore}, // passedOn
}

func meaningOf(name []byte) meaning {
	for _, m := range meanings {
		if len(m.name) == len(name) && strings.EqualFold(m.name, string(name)) {
			return m.meaning
		}
	}
	return meansNothing
}

// plainBody is a body of known length, in bytes.
type plainBody struct {
	in   *bufio.Reader
	left int
}

// Read implements io.Reader.
func (b *plainBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.in.Read(p[:min(len(p), b.left)])
	if b.left -= n; errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close implements io.Closer.
func (b *plainBody) Close() error { return nil }
