package gatewaytest

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"ssegateway/sse"
)

// body is what a client received behind the head of its response.
type body struct {
	events     []Event
	heartbeats []int // before which event each was
	retries    []int // the same of blocks that are a retry only
	rest       []byte
	ended      bool // the last chunk was there
}

// parseBody is strict: every block is whole, and in a chunk of its own where the
// body is chunked (RFC 9112 section 7.1), with nothing behind the last chunk.
func parseBody(b []byte, chunked bool) (body, error) {
	var p body
	for len(b) > 0 {
		var block, rest []byte
		var whole bool
		var err error
		if chunked {
			block, rest, whole, err = cutChunk(b)
		} else {
			block, rest, whole = cutBlock(b)
		}
		switch {
		case err != nil:
			return p, err
		case !whole:
			p.rest = b
			return p, nil
		case chunked && len(block) == 0:
			p.ended = true
			if len(rest) > 0 {
				return p, fmt.Errorf("bytes behind the last chunk: %.80q", rest)
			}
			return p, nil
		}
		if err := p.take(block); err != nil {
			return p, err
		}
		b = rest
	}
	return p, nil
}

func (p *body) take(block []byte) error {
	if string(block) == sse.Heartbeat {
		p.heartbeats = append(p.heartbeats, len(p.events))
		return nil
	}
	if isRetry(block) {
		p.retries = append(p.retries, len(p.events))
		return nil
	}
	e, err := parseEvent(block)
	p.events = append(p.events, e)
	return err
}

func isRetry(block []byte) bool {
	ms, ok := bytes.CutPrefix(block, []byte("retry: "))
	if !ok {
		return false
	}
	ms, ok = bytes.CutSuffix(ms, []byte("\n\n"))
	n, err := strconv.Atoi(string(ms))
	return ok && err == nil && 1000 <= n && n < 5000
}

func cutBlock(b []byte) (block, rest []byte, whole bool) {
	i := bytes.Index(b, []byte("\n\n"))
	if i < 0 {
		return nil, nil, false
	}
	return b[:i+2], b[i+2:], true
}

// cutChunk reads one chunk. An incomplete one is no error, as long as it can
// still become one.
func cutChunk(b []byte) (content, rest []byte, whole bool, err error) {
	line, after, found := bytes.Cut(b, []byte("\r\n"))
	if !found {
		line = bytes.TrimSuffix(line, []byte("\r"))
	}
	for _, c := range line {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return nil, nil, false, fmt.Errorf("not the size of a chunk: %.80q", b)
		}
	}
	if len(line) > 1 && line[0] == '0' {
		return nil, nil, false, fmt.Errorf("a size with a zero in front: %.80q", b)
	}
	if !found && len(line) <= 8 {
		return nil, nil, false, nil
	}
	size, err := strconv.ParseUint(string(line), 16, 32)
	if err != nil {
		return nil, nil, false, fmt.Errorf("not the size of a chunk: %.80q", b)
	}
	n := int(size)
	if end := after[min(n, len(after)):]; !bytes.HasPrefix(end, []byte("\r\n")) {
		if len(end) == 0 || string(end) == "\r" {
			return nil, nil, false, nil
		}
		return nil, nil, false, fmt.Errorf("a chunk of %d bytes is followed by %.80q", n, end)
	}
	return after[:n], after[n+2:], true, nil
}

const lastChunk = "0\r\n\r\n"

// couldBegin reports whether rest, which was cut, is the beginning of the frame of
// one of the events, of a heartbeat, a retry or the end.
func couldBegin(rest []byte, chunked bool, events []Event) bool {
	fits := func(block []byte) bool {
		frame := block
		if chunked {
			frame = fmt.Appendf(nil, "%x\r\n%s\r\n", len(block), block)
		}
		return bytes.HasPrefix(frame, rest)
	}
	if fits([]byte(sse.Heartbeat)) || chunked && strings.HasPrefix(lastChunk, string(rest)) {
		return true
	}
	for _, e := range events {
		if fits(e.wire()) {
			return true
		}
	}
	const retry, retrySize = "retry: 0000\n\n", "d\r"
	block := rest
	if chunked {
		size, after, _ := bytes.Cut(rest, []byte("\r\n"))
		if block = after; len(after) == 0 {
			return strings.HasPrefix(retrySize, string(size))
		}
		block = bytes.TrimSuffix(block, []byte("\r"))
	}
	return len(block) <= len(retry) && sameForm(block, []byte(retry)[:len(block)])
}

// sameForm compares two texts, ignoring the values of digits.
func sameForm(a, b []byte) bool {
	digit := func(c byte) bool { return '0' <= c && c <= '9' }
	for i := range a {
		if a[i] != b[i] && (!digit(a[i]) || !digit(b[i])) {
			return false
		}
	}
	return true
}
