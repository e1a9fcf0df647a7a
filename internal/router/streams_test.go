package router

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
)

// A message of a write that comes late, after one of the write behind it, is not written
// again: not at once, and not when the streaming request has paused for long.
func TestLateWrite(t *testing.T) {
	for _, version := range []int{0, 1} {
		among(t, 1, func(t *testing.T, net *network) {
			n := net.nodes[1]
			token, c := n.open(t, "/", gateway.Grant{})
			ask := func(q nodeRequest) nodeAnswer {
				t.Helper()
				a, err := q.decodeAnswer(version, n.Answer(t.Context(), q.encode(version)))
				if err != nil {
					t.Error(err)
				}
				return a
			}
			write := func(number int) error {
				t.Helper()
				return ask(nodeRequest{Write: &writeRequest{
					Token: token.String(), Stream: "s", Number: number, Blocks: encodeBlocks([]connections.Block{{Event: data(strconv.Itoa(number))}}),
				}}).failure()
			}
			watch := func() {
				t.Helper()
				if a := ask(nodeRequest{Watch: &watchRequest{Token: token.String(), Stream: "s"}}); !a.Held {
					t.Errorf("the answer to the watch is %+v", a)
				}
			}
			want := func(what, text string) {
				t.Helper()
				if got := strings.NewReplacer("data: ", "", "\n", "").Replace(c.text()); got != text {
					t.Errorf("version %d, %s: received %q, want %q", version, what, got, text)
				}
			}
			for _, number := range []int{1, 1, 2, 2} {
				if err := write(number); err != nil {
					t.Error(number, err)
				}
			}
			want("asked twice", "12")
			if err := write(1); err == nil {
				t.Error("a stale write is answered like one that is written")
			}
			want("late", "12")
			for begin := time.Now(); time.Since(begin) < 3*streamIdle; {
				watch()
			}
			if err := write(1); err == nil {
				t.Error("a stale write is answered like one that is written")
			}
			want("late, after a pause", "12")
			if err := write(3); err != nil {
				t.Error(err)
			}
			want("the next", "123")
		})
	}
}
