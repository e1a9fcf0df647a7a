package harness

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// chunkParser parses the chunked coding of RFC 9112, section 7.1, as bytes arrive. It accepts
// only what the gateway should write: no extensions, no trailer fields, nothing after the
// last chunk.
type chunkParser struct {
	rest []byte // received, but not yet a whole chunk
	done bool   // the last chunk was received
}

var errAfterLastChunk = errors.New("bytes after the last chunk")

// feed parses received bytes, and returns the contents of the chunks that they complete.
func (p *chunkParser) feed(b []byte) (chunks [][]byte, err error) {
	p.rest = append(p.rest, b...)
	for {
		if p.done {
			if len(p.rest) > 0 {
				return chunks, fmt.Errorf("%w: %.60q", errAfterLastChunk, p.rest)
			}
			return chunks, nil
		}
		line, after, found := bytes.Cut(p.rest, []byte("\r\n"))
		if !found {
			if len(line) > 17 {
				return chunks, fmt.Errorf("not a chunk size: %.60q", line)
			}
			return chunks, nil
		}
		size, err := chunkSize(line)
		if err != nil {
			return chunks, err
		}
		if len(after) < size+2 {
			if len(after) > size && after[size] != '\r' {
				return chunks, fmt.Errorf("chunk of %d bytes is followed by %q", size, after[size])
			}
			return chunks, nil
		}
		if end := after[size : size+2]; string(end) != "\r\n" {
			return chunks, fmt.Errorf("chunk of %d bytes is followed by %q", size, end)
		}
		if size == 0 {
			p.done = true
		} else {
			chunks = append(chunks, after[:size:size])
		}
		p.rest = after[size+2:]
	}
}

// inChunk reports whether the bytes so far end inside a chunk.
func (p *chunkParser) inChunk() bool { return !p.done && len(p.rest) > 0 }

func chunkSize(line []byte) (int, error) {
	for _, c := range line {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
			return 0, fmt.Errorf("not a chunk size: %.60q", line)
		}
	}
	size, err := strconv.ParseUint(string(line), 16, 31)
	if err != nil {
		return 0, fmt.Errorf("not a chunk size: %.60q", line)
	}
	return int(size), nil
}
