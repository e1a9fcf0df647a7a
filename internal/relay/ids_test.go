package relay

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"ssegateway/internal/api"
	"ssegateway/internal/broker"
	"ssegateway/internal/callback"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/sse"
)

// pieces is the body of an answer that comes in pieces.
type pieces struct {
	rest string
	step int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.rest == "" {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.step)], p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

func (p *pieces) Close() error { return nil }

// Send implements Forwarder.
func (p *pieces) Send(r *http.Request, _ func(*http.Response)) (*http.Response, error) {
	h := http.Header{"Content-Type": {"text/event-stream"}, resumeField: {"60"}}
	return &http.Response{StatusCode: http.StatusOK, Header: h, Body: p, Request: r, ProtoMajor: 1, ProtoMinor: 1}, nil
}

// plainStreams opens sockets that take all.
type plainStreams struct{}

func (plainStreams) OpenAs(w http.ResponseWriter, _ *http.Request, c *gateway.Conn, g gateway.Grant) {
	rec, _ := w.(*recorder)
	rec.socket = newSocket(c, false, false, 1<<30)
	rec.socket.gone = func() {}
	c.Open(rec.socket, frame.Frame{}, g)
}

func newPlain(t *testing.T, body Forwarder) *Relay {
	t.Helper()
	gw := gateway.New(gateway.Config{Heartbeat: 1 << 40, MaxConnections: 10, QueueBytes: 1 << 20, BudgetBytes: 1 << 30, Log: slog.New(slog.DiscardHandler)}, noBackend{})
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = gw.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-over
	})
	return New(Config{
		Forwarder: body, Paths: []string{""}, Gateway: gw, Streams: plainStreams{}, MaxBody: 1 << 20, AnswerBytes: 1 << 30, BudgetBytes: 1 << 40,
		Position: func(context.Context) broker.Position { return broker.Position{Epoch: "e"} }, Trusts: func(netip.Addr) bool { return false },
		Peer: func(*http.Request) netip.Addr { return netip.Addr{} }, SameAddress: func(a, b netip.Addr) bool { return a == b },
		LastEventID: func(r *http.Request) string { return r.Header.Get("Last-Event-ID") },
		Encode:      func(r *http.Request) ([]byte, bool) { return callback.EncodeRequest(r, netip.Addr{}) },
		Refuse:      func(w http.ResponseWriter, _ *http.Request, e *api.Error) { e.Write(w) },
		Reject:      func(http.ResponseWriter, *http.Request, []byte, error) {},
		Log:         slog.New(slog.DiscardHandler),
	})
}

// plainGet makes a request, and returns what a client gets.
func plainGet(t *testing.T, r *Relay, id string) (header http.Header, body string, clean bool) {
	t.Helper()
	in, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://h/a", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	in.RequestURI = "/a"
	if id != "" {
		in.Header.Set("Last-Event-ID", id)
	}
	rec := &recorder{header: http.Header{}}
	r.ServeHTTP(rec, in)
	if rec.socket == nil {
		return rec.header, "", rec.status == http.StatusNoContent
	}
	var wire []byte
	for p := rec.socket.take(1 << 20); len(p) > 0; p = rec.socket.take(1 << 20) {
		wire = append(wire, p...)
	}
	body, clean = rec.socket.content(wire)
	return rec.header, body, clean
}

type decoded struct {
	sse.Event

	own bool // the stream has set an id so far
}

// decodeAll returns the events of a stream, and its reconnection time.
func decodeAll(t *testing.T, text string) (events []decoded, retry sse.Retry) {
	t.Helper()
	d := sse.NewDecoder(strings.NewReader(text))
	for {
		e, err := d.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			return events, d.Retry()
		}
		events = append(events, decoded{e, d.GaveID()})
	}
}

// wholeBlocks returns a stream without a last block that has no empty line: that is not delivered.
func wholeBlocks(text string) string {
	whole := 0
	for at := 0; ; {
		end := strings.IndexAny(text[at:], "\r\n")
		if end < 0 {
			return text[:whole]
		}
		next := at + end + 1
		if text[next-1] == '\r' && strings.HasPrefix(text[next:], "\n") {
			next++
		}
		if end == 0 {
			whole = next
		}
		at = next
	}
}

// FuzzIDs: with the gateway in between, a client gets the same events as without, but for the ids, however the stream comes;
// and who comes back behind each of them gets the others.
func FuzzIDs(f *testing.F) {
	for _, s := range scanCorpus {
		f.Add(s, uint8(1))
		f.Add(s, uint8(200))
	}
	f.Fuzz(func(t *testing.T, text string, step uint8) {
		r := newPlain(t, &pieces{text, 1 + int(step)})
		header, got, clean := plainGet(t, r, "")
		defer r.Wait()
		want, retry := decodeAll(t, wholeBlocks(text))
		events, gotRetry := decodeAll(t, got)
		if len(events) != len(want) || !clean || gotRetry != retry {
			t.Fatalf("%q became %q: %d events and %v, want %d and %v", text, got, len(events), gotRetry, len(want), retry)
		}
		key, _, _ := strings.Cut(header.Get(resumeField), ".")
		kept := true
		for n, e := range events {
			w := want[n]
			if e.Name != w.Name || e.Data != w.Data || e.Retry != w.Retry {
				t.Errorf("%q: event %d is %+v, want %+v", text, n+1, e, w)
			}
			kept = kept && e.ID.String() == key+"."+strconv.Itoa(n+1)
			if !kept && !w.own && !strings.Contains(text, "id") {
				t.Errorf("%q: event %d has the id %q", text, n+1, e.ID.String())
			}
		}
		if strings.Contains(text, "id") {
			return
		}
		for n := range events {
			_, rest, clean := plainGet(t, r, key+"."+strconv.Itoa(n))
			missed, _ := decodeAll(t, rest)
			if len(missed) != len(events)-n || !clean {
				t.Fatalf("%q: %d events behind event %d of %d: %q", text, len(missed), n, len(events), rest)
			}
			for i, e := range missed {
				if w := events[n+i]; e.Event != w.Event {
					t.Errorf("%q: behind event %d comes %+v, want %+v", text, n, e, w)
				}
			}
		}
		if _, rest, none := plainGet(t, r, key+"."+strconv.Itoa(len(events))); rest != "" || !none {
			t.Errorf("%q: %q behind the last event", text, rest)
		}
	})
}
