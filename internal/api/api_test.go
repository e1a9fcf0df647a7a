package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"ssegateway/internal/broker"
	"ssegateway/internal/connections"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/gatewaytest"
	"ssegateway/internal/history"
	"ssegateway/internal/topics"
	"ssegateway/sse"
)

// sink is a stream that takes everything, or, while it is full, nothing. It leaves out the
// heartbeat with which a stream begins.
type sink struct {
	mu       sync.Mutex
	begun    bool
	full     bool
	received bytes.Buffer
	writes   int
	closed   bool
	changed  chan struct{} // has a value after a change
}

func (s *sink) Start() gateway.Detail { return 0 }

func (s *sink) Write(p []byte) (int, gateway.Detail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	begins := !s.begun
	s.begun = true
	if begins && string(p) == sse.Heartbeat {
		return len(p), 0
	}
	if s.full {
		return 0, 0
	}
	s.writes++
	s.received.Write(p)
	s.tell()
	return len(p), 0
}

func (s *sink) tell() {
	if s.changed == nil {
		s.changed = make(chan struct{}, 1)
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *sink) Left() (gateway.Reason, gateway.Detail) { return 0, 0 }
func (s *sink) Look(uint64) (uint64, bool)             { return 1, false }

func (s *sink) Close(bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.tell()
}

func (s *sink) Chunked() bool { return false }

func (s *sink) setFull(full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = full
}

func (s *sink) got() (text string, writes int, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.received.String(), s.writes, s.closed
}

// await waits until what was received is as ok wants it.
func (s *sink) await(t testing.TB, what string, ok func(text string, writes int, closed bool) bool) {
	t.Helper()
	s.mu.Lock()
	if s.changed == nil {
		s.changed = make(chan struct{}, 1)
	}
	changed := s.changed
	s.mu.Unlock()
	deadline := time.After(10 * time.Second)
	for {
		text, writes, closed := s.got()
		if ok(text, writes, closed) {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%s: in %d writes %q, closed %v", what, writes, text, closed)
		}
	}
}

// follow answers a tail: with its topics as one event, or, for the topic full, with an error.
func follow(w http.ResponseWriter, _ *http.Request, topics []string) *Error {
	if topics[0] == "full" {
		return ErrTooManyTails
	}
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, "data: "+strings.Join(topics, "|")+"\n\n")
	return nil
}

// newPast has one point. Its stream is that of a gateway with one point, or, of the last minute, an error.
func newPast(t testing.TB) Past {
	h := history.New(func() history.Counts { return history.Counts{Opened: 7} })
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = h.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return Past{
		Points: h.Points,
		Follow: func(w http.ResponseWriter, _ *http.Request, d time.Duration) *Error {
			if d == time.Minute {
				return ErrTooManyTails
			}
			w.Header().Set("Content-Type", "text/event-stream")
			w.Header().Set("Cache-Control", "no-cache, no-transform")
			_, _ = io.WriteString(w, "data: "+d.String()+"\n\n")
			return nil
		},
	}
}

func newAPI(t testing.TB) (*API, *gateway.Gateway) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	engine := broker.NewMemory(1<<20, time.Minute)
	engine.LimitRetained(10_000)
	all := topics.New(engine, false)
	gw := gateway.New(gateway.Config{
		Heartbeat: time.Minute, MaxConnections: 100, QueueBytes: 1000, BudgetBytes: 10_000, Topics: all, Log: log,
	}, gatewaytest.Accepting{})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = engine.Run(ctx) })
	running.Go(func() { _ = all.Run(ctx) })
	running.Go(func() { _ = gw.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	own := connections.NewOwn(gw, all, func() string { return "node-1" }, log)
	return New(own, 500, gw.MaxTopics(), follow, newPast(t), log), gw
}

// open makes a connection; without a stream it stays pending.
func open(t testing.TB, gw *gateway.Gateway, s gateway.Stream) string {
	t.Helper()
	return openWith(t, gw, s, gateway.Grant{})
}

func openWith(t testing.TB, gw *gateway.Gateway, s gateway.Stream, g gateway.Grant) string {
	t.Helper()
	c, _, err := gw.Connect(t.Context(), []byte(`{"url":"/a/b?c=d","headers":{}}`))
	if err != nil || s != nil && !c.Open(s, frame.Frame{}, g) {
		t.Fatal("not open", err)
	}
	return c.Token().String()
}

func conn(t testing.TB, gw *gateway.Gateway, token string) *gateway.Conn {
	t.Helper()
	parsed, ok := gateway.ParseToken(token)
	c := gw.Find(parsed)
	if !ok || c == nil {
		t.Fatal("no connection", token)
	}
	return c
}

// do makes a request, which is JSON unless the headers, name and value in turn, say
// otherwise, and checks that it and the answer are as documented.
func do(t testing.TB, a *API, method, target, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if body == "" {
		r.Body = http.NoBody
	}
	if method == http.MethodPost || method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	described(t, a).ServeHTTP(w, r)
	return w
}

func post(t testing.TB, a *API, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	return do(t, a, http.MethodPost, "/internal/send", body, header...)
}

// want checks an answer: its status, and that its body has a part.
func want(t testing.TB, w *httptest.ResponseRecorder, status int, part string) {
	t.Helper()
	if body := w.Body.String(); w.Code != status || !strings.Contains(body, part) {
		t.Errorf("%d %s, want %d %s", w.Code, body, status, part)
	}
}

// decodeJSON reads an answer, as strictly as requests are read.
func decodeJSON(body []byte, v any) error { return json.Unmarshal(body, v) }

// sendCounts returns the results of sends, as they are counted.
func sendCounts(a *API) map[string]uint64 {
	counted := map[string]uint64{}
	a.conns.(*connections.Own).Sends(func(result string, n uint64) { counted[result] = n })
	counted[connections.InvalidSend] += a.InvalidSends()
	return counted
}

// extentOf returns the extent of the log of an API's own node.
func extentOf(a *API) broker.Stats {
	return a.conns.Statistics(context.Background()).Log
}

// answer reads a JSON answer.
func answer[T any](t testing.TB, w *httptest.ResponseRecorder) T {
	t.Helper()
	var v T
	if err := decodeJSON(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	return v
}

var errBroken = errors.New("broken")
