package harness

import (
	"strings"
	"testing"
)

// A torn body, an extension and a trailer are errors, however the bytes are divided among reads.
func TestChunkParser(t *testing.T) {
	cases := []struct {
		in   string
		want string // the contents, one | after each chunk
		done bool
		bad  bool
	}{
		{in: "", want: ""},
		{in: "5\r\nhello\r\n", want: "hello|"},
		{in: "5\r\nhello\r\n0\r\n\r\n", want: "hello|", done: true},
		{in: "A\r\n0123456789\r\n1\r\nx\r\n", want: "0123456789|x|"},
		{in: "0a\r\n0123456789\r\n", want: "0123456789|"},
		{in: "5\r\nhel", want: ""},
		{in: "5;x=y\r\nhello\r\n", bad: true},
		{in: "5\r\nhello!\r\n", bad: true},
		{in: "5\r\nhello\n\n", bad: true},
		{in: "0\r\nTrailer: x\r\n\r\n", bad: true},
		{in: "0\r\n\r\nx", bad: true, done: true},
		{in: "\r\nhello\r\n", bad: true},
		{in: "data: hello, no chunk at all\n\n", bad: true},
		{in: "fffffffff\r\n", bad: true},
	}
	for _, c := range cases {
		for _, step := range []int{1, 2, 7, 1000} {
			var p chunkParser
			var got strings.Builder
			var failed error
			for rest := c.in; rest != "" && failed == nil; {
				n := min(step, len(rest))
				chunks, err := p.feed([]byte(rest[:n]))
				for _, chunk := range chunks {
					got.WriteString(string(chunk) + "|")
				}
				rest, failed = rest[n:], err
			}
			if (failed != nil) != c.bad || got.String() != c.want || p.done != c.done {
				t.Errorf("%q in steps of %d: %q, done %v, error %v", c.in, step, got.String(), p.done, failed)
			}
		}
	}
}
