package contract

import (
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"ssegateway/e2e/harness"
	"ssegateway/sse"
)

// Stream is one connection of a client.
type Stream struct {
	*harness.Exchange
	s     *Site
	key   string
	token string // set after the connect callback

	decoder *sse.Decoder // set by NextEvent
}

var keys atomic.Int64

// NewKey returns a new key for a connection.
func NewKey() string { return "k" + strconv.FormatInt(keys.Add(1), 10) }

// Begin sends a request for a stream, and does not wait for the answer. The backend answers
// the callbacks by the script.
func (s *Site) Begin(r harness.Request, script harness.Script) *Stream {
	s.t.Helper()
	x := &Stream{s: s, key: NewKey()}
	s.backend.On(x.key, script)
	r.Header = append(r.Header[:len(r.Header):len(r.Header)], harness.Field{Name: harness.KeyHeader, Value: x.key})
	if !s.t.exact {
		r = canaries.request(r)
	}
	x.Exchange = s.Do(r)
	return x
}

// Open opens a stream that the backend accepts.
func (s *Site) Open(target string) *Stream {
	s.t.Helper()
	return s.OpenWith(harness.Request{Target: target}, harness.Script{})
}

// OpenWith opens a stream that the script must accept.
func (s *Site) OpenWith(r harness.Request, script harness.Script) *Stream {
	s.t.Helper()
	x := s.Begin(r, script)
	if head := x.WantHead(); head.Status != http.StatusOK {
		s.t.Fatalf("%s: status %d, want 200; %s", r.Target, head.Status, x.bodyText())
	}
	x.token = x.Connect().Token
	return x
}

// Do sends a request without a key.
func (s *Site) Do(r harness.Request) *harness.Exchange {
	s.t.Helper()
	return do(s.t, s.endpoint, r)
}

func do(t *T, e harness.Endpoint, r harness.Request) *harness.Exchange {
	t.Helper()
	x, err := e.Do(t.Context(), r)
	if err != nil {
		t.Fatalf("%.80s: %v", r.Target, err)
	}
	t.Cleanup(x.HangUp)
	return x
}

// WantHead waits for the response head.
func (x *Stream) WantHead() *harness.Head {
	x.s.t.Helper()
	return wantHead(x.s.t, x.Exchange)
}

func wantHead(t *T, x *harness.Exchange) *harness.Head {
	t.Helper()
	head, err := x.Head(patience)
	if err != nil {
		t.Fatal(err)
	}
	return head
}

func (x *Stream) bodyText() string {
	text, _, _ := x.Rest(time.Second)
	return fmt.Sprintf("%.300q", text)
}

// Want waits for the next bytes of the stream, which must be these.
func (x *Stream) Want(want string) {
	x.s.t.Helper()
	got, err := x.Next(len(want), patience)
	if got != want {
		x.s.t.Fatalf("the stream has %s, want %s (%v)", quoted(got), quoted(want), err)
	}
}

// WantEnd waits for a clean end without further bytes.
func (x *Stream) WantEnd() {
	x.s.t.Helper()
	rest, end, err := x.Rest(patience)
	if rest != "" || end != harness.Clean {
		x.s.t.Fatalf("got %s and then %v (%v), want the end of the stream", quoted(rest), end, err)
	}
}

// quoted shortens long data, to keep failures readable.
func quoted(s string) string {
	const most = 400
	if len(s) <= most {
		return strconv.Quote(s)
	}
	return fmt.Sprintf("%q… (%d bytes)", s[:most], len(s))
}

func action(key, action string) func(*harness.Callback) bool {
	return func(c *harness.Callback) bool { return c.Key == key && c.Action == action }
}

// Connect waits for the connect callback.
func (x *Stream) Connect() *harness.Callback { x.s.t.Helper(); return x.callbacks("connect", 1)[0] }

// Disconnect waits for the first disconnect callback.
func (x *Stream) Disconnect() *harness.Callback {
	x.s.t.Helper()
	return x.callbacks("disconnect", 1)[0]
}

func (x *Stream) callbacks(kind string, n int) []*harness.Callback {
	x.s.t.Helper()
	calls, err := x.s.backend.Await(patience, n, action(x.key, kind))
	if err != nil {
		x.s.t.Fatalf("%s of %s: %v", kind, x.key, err)
	}
	for _, c := range calls {
		if c.Err != nil {
			x.s.t.Fatalf("%s: %v in %s", kind, c.Err, c.Body)
		}
	}
	return calls
}

// WantDisconnect waits for the disconnect callback, and checks that it is the only one.
func (x *Stream) WantDisconnect(reason string) *harness.Callback {
	x.s.t.Helper()
	c := x.Disconnect()
	if c.Reason != reason {
		x.s.t.Fatalf("disconnect with reason %q (detail %q), want %q", c.Reason, c.Detail, reason)
	}
	x.s.Barrier()
	if calls := x.callbacks("disconnect", 1); len(calls) != 1 {
		x.s.t.Fatalf("%d disconnects, want one", len(calls))
	}
	if connect := x.Connect(); connect.Token != c.Token {
		x.s.t.Fatalf("disconnect of %s, but its connect was of %s", c.Token, connect.Token)
	}
	return c
}

// WantNoDisconnect checks that no disconnect callback was sent so far.
func (x *Stream) WantNoDisconnect() {
	x.s.t.Helper()
	x.s.Barrier()
	if calls := x.s.backend.Calls(action(x.key, "disconnect")); len(calls) != 0 {
		x.s.t.Fatalf("disconnect callback %s, want none", calls[0].Body)
	}
}

// Barrier opens and closes another connection. When it returns, callbacks that the gateway was
// about to make before have been made.
func (s *Site) Barrier() {
	s.t.Helper()
	x := s.Open("/barrier")
	x.Leave()
	x.Disconnect()
}
