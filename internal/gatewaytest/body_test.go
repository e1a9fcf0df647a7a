package gatewaytest

import (
	"slices"
	"strings"
	"testing"
)

func chunked(blocks ...string) string {
	var b strings.Builder
	for _, block := range blocks {
		b.WriteString(strings.ToLower(hex(len(block))) + "\r\n" + block + "\r\n")
	}
	return b.String()
}

func hex(n int) string {
	const digits = "0123456789abcdef"
	if n < 16 {
		return digits[n : n+1]
	}
	return hex(n/16) + hex(n%16)
}

var (
	first  = Event{Conn: 7, Sender: 1, Seq: 2, Size: 90}
	second = Event{Conn: 7, Sender: 1, Seq: 3}
)

// A body is taken whole, and cut at any byte; whatever else is done to it shows.
func TestParseBody(t *testing.T) {
	blocks := []string{string(first.wire()), ": heartbeat\n\n", string(second.wire()), "retry: 1234\n\n"}
	for _, test := range []struct {
		chunked bool
		whole   string
	}{
		{true, chunked(append(blocks, "")...)},
		{false, strings.Join(blocks, "")},
	} {
		p, err := parseBody([]byte(test.whole), test.chunked)
		if err != nil || !slices.Equal(p.events, []Event{first, second}) || len(p.heartbeats) != 1 || len(p.retries) != 1 || p.ended != test.chunked || len(p.rest) > 0 {
			t.Errorf("chunked %v: %+v, %v", test.chunked, p, err)
		}
		for n := range len(test.whole) {
			p, err := parseBody([]byte(test.whole[:n]), test.chunked)
			if err != nil || p.ended || len(p.rest) > 0 && !couldBegin(p.rest, test.chunked, []Event{first, second}) {
				t.Errorf("chunked %v, cut at %d: %+v, %v", test.chunked, n, p, err)
			}
			// A byte lost, doubled or changed is seen, or what is left is no beginning of anything.
			for _, torn := range []string{
				test.whole[:n] + test.whole[n+1:],
				test.whole[:n+1] + test.whole[n:],
				test.whole[:n] + "\x00" + test.whole[n+1:],
			} {
				p, err := parseBody([]byte(torn), test.chunked)
				same := err == nil && slices.Equal(p.events, []Event{first, second}) && len(p.heartbeats) == 1 && len(p.retries) == 1 && p.ended == test.chunked
				if same && len(p.rest) == 0 {
					t.Errorf("chunked %v, torn at %d: not seen in %q", test.chunked, n, torn)
				}
			}
		}
	}
	for _, bad := range []string{"x", "5;a=b\r\n", "3\r\nabc\r\n", "0\r\n\r\n0\r\n\r\n", "100000000\r\n", "00\r\n\r\n", "d\r\nretry: 0123\n\n\r\n"} {
		if p, err := parseBody([]byte(bad), true); err == nil {
			t.Errorf("%q: %+v", bad, p)
		}
	}
}
