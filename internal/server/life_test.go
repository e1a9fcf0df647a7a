//go:build linux && !portable

package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ssegateway/internal/broker"
	"ssegateway/internal/config"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
)

// expectEnd waits for the end by a failure: Run returns it, and the client of a stream that
// was open got its word, and the backend its own.
func (r *running) expectEnd(events *client, failure string) {
	r.t.Helper()
	begin := time.Now()
	rest, err := io.ReadAll(events.in)
	if err != nil || !strings.Contains(string(rest), "retry: ") {
		r.t.Errorf("the client got %q, %v", rest, err)
	}
	select {
	case err := <-r.over:
		if err == nil || !strings.Contains(err.Error(), failure) {
			r.t.Errorf("Run returned %v, want %s", err, failure)
		}
	case <-time.After(patience):
		r.t.Fatal("Run does not return")
	}
	if took := time.Since(begin); took > 6*time.Second {
		r.t.Errorf("it took %v", took)
	}
	if end := r.end(); end != "server_closed draining" {
		r.t.Errorf("the backend was told %q", end)
	}
	if !strings.Contains(r.log.String(), "a part of the gateway failed") {
		r.t.Error(r.log.String())
	}
}

// end returns the next that the backend is told of.
func (r *running) end() string {
	r.t.Helper()
	select {
	case end := <-r.ends:
		return end
	case <-time.After(patience):
		r.t.Fatal("the backend is not told")
		return ""
	}
}

// TestAcceptFails: a listener that fails for good is the end of all, in order.
func TestAcceptFails(t *testing.T) {
	for _, internal := range []bool{false, true} {
		for _, how := range []int{unix.SHUT_RD, unix.SHUT_RDWR} {
			t.Run(fmt.Sprintf("internal=%t,how=%d", internal, how), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "s")
				r := prepare(t, func(cfg *config.Config) {
					cfg.DrainWindow = time.Hour
					if internal {
						cfg.InternalAddr, cfg.InternalSocketMode = config.Addr{Network: "unix", Address: path}, 0o660
					}
				})
				r.run()
				events, _ := r.stream()
				shut := 0
				for fd := range 1024 {
					if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listens == 0 {
						continue
					}
					found := false
					switch addr, _ := unix.Getsockname(fd); a := addr.(type) {
					case *unix.SockaddrInet6:
						found = !internal && a.Port == r.cfg.Port
					case *unix.SockaddrInet4:
						found = !internal && a.Port == r.cfg.Port
					case *unix.SockaddrUnix:
						found = internal && a.Name == path
					}
					if found {
						shut++
						if err := unix.Shutdown(fd, how); err != nil {
							t.Fatal(err)
						}
					}
				}
				if shut != 1 {
					t.Fatalf("%d listeners", shut)
				}
				r.expectEnd(events, "accept")
			})
		}
	}
}

// failingEngine is a broker whose run fails when it is told to.
type failingEngine struct {
	broker.Engine

	now  chan struct{}
	fail func()
}

func (e failingEngine) Run(context.Context) error {
	<-e.now
	e.fail()
	return nil
}

// faulty is a stream that panics at its first write after it was armed, or at all of them.
type faulty struct{ armed, always atomic.Bool }

func (f *faulty) Start() gateway.Detail { return 0 }

func (f *faulty) Write(p []byte) (int, gateway.Detail) {
	if f.armed.Swap(false) || f.always.Load() {
		panic("planted")
	}
	return len(p), 0
}
func (f *faulty) Left() (gateway.Reason, gateway.Detail) { return 0, 0 }
func (f *faulty) Look(last uint64) (uint64, bool)        { return last, false }
func (f *faulty) Close(bool)                             {}
func (f *faulty) Chunked() bool                          { return false }

// openFaulty opens such a stream, with a topic.
func (r *running) openFaulty() (f *faulty, token string) {
	r.t.Helper()
	c, _, err := r.gw.Connect(r.t.Context(), []byte(`{"url":"/faulty"}`))
	if err != nil {
		r.t.Fatal(err)
	}
	f = &faulty{}
	if !c.Open(f, frame.Frame{}, gateway.Grant{Topics: []string{"t"}}) {
		r.t.Fatal("not open")
	}
	f.armed.Store(true)
	return f, <-r.tokens
}

// TestPanicInSharedLoop: whatever runs for all connections ends the process when it panics,
// in order: streams get their word, and so does the backend.
func TestPanicInSharedLoop(t *testing.T) {
	for _, test := range []struct {
		name    string
		change  func(*config.Config)
		trigger func(r *running, token string)
	}{
		{"a shard of the topics", nil, func(r *running, _ string) {
			r.post("/internal/publish", `{"topic":"t","event":{"data":"x"}}`)
		}},
		{"a loop of senders", nil, func(r *running, token string) {
			c := r.kept()
			c.write(request(event(token, "x")))
		}},
		{"heartbeats", func(cfg *config.Config) { cfg.HeartbeatInterval = time.Second }, func(*running, string) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := prepare(t, test.change)
			r.run()
			events, _ := r.stream()
			_, token := r.openFaulty()
			test.trigger(r, token)
			r.expectEnd(events, "panic: planted")
			if !strings.Contains(r.log.String(), "server.(*faulty).Write") {
				t.Errorf("no stack in the log: %s", r.log.String())
			}
		})
	}
}

// post sends a request, and does not wait for its answer.
func (r *running) post(path, body string) *client {
	r.t.Helper()
	c := r.dial()
	c.write(fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body))
	return c
}

// TestPanicAgainInDrain: what the drain meets at one connection does not keep it from the others.
func TestPanicAgainInDrain(t *testing.T) {
	r := prepare(t, nil)
	r.run()
	var all []*client
	for range 5 {
		events, _ := r.stream()
		all = append(all, events)
	}
	f, _ := r.openFaulty()
	f.always.Store(true)
	r.post("/internal/publish", `{"topic":"t","event":{"data":"x"}}`)
	for _, events := range all[1:] {
		if rest, err := io.ReadAll(events.in); err != nil || !strings.Contains(string(rest), "retry: ") {
			t.Errorf("a client got %q, %v", rest, err)
		}
	}
	r.expectEnd(all[0], "panic: planted")
	for range 4 {
		if end := r.end(); end != "server_closed draining" {
			t.Errorf("the backend was told %q", end)
		}
	}
}

// TestPanicOfPart: so does a part whose own goroutine panics, or ends.
func TestPanicOfPart(t *testing.T) {
	for _, test := range []struct {
		failure string
		fail    func()
	}{
		{"broker: panic: planted", func() { panic("planted") }},
		{"broker: it ended", func() {}},
	} {
		t.Run(test.failure, func(t *testing.T) {
			r := prepare(t, nil)
			now := make(chan struct{})
			r.broker = failingEngine{r.broker, now, test.fail}
			r.run()
			events, _ := r.stream()
			close(now)
			r.expectEnd(events, test.failure)
		})
	}
}

// TestPanicInHandler: it ends its request and nothing else, is counted, and logged with its stack.
func TestPanicInHandler(t *testing.T) {
	r := start(t, nil)
	f, token := r.openFaulty()
	events, other := r.stream()
	c := r.post("/internal/send", event(token, "x"))
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		t.Errorf("the caller got %q, %v", rest, err)
	}
	if f.armed.Load() {
		t.Fatal("it did not panic")
	}
	for _, token := range []string{token, other} { // no lock was left behind
		if status, body := r.post("/internal/send", event(token, "y")).answer(); status != http.StatusOK {
			t.Errorf("%d %s", status, body)
		}
	}
	if data := events.event(); data != "y" {
		t.Errorf("the other stream got %q", data)
	}
	r.expectPanics(1)
	log := r.log.String()
	if strings.Count(log, "a request's handler panicked") != 1 || !strings.Contains(log, "server.(*faulty).Write") {
		t.Errorf("log: %s", log)
	}
}

// TestPanicBehindHijack: nor does a connection stay that net/http has handed over.
func TestPanicBehindHijack(t *testing.T) {
	r := start(t, nil)
	_, token := r.openFaulty()
	c := r.dial()
	c.write(request(`{"token":"x"}`))
	if status, body := c.answer(); status != http.StatusNotFound {
		t.Fatal(status, body)
	}
	c.write(request(event(token, "x"))) // the second, which the connection is taken over with
	if rest, err := io.ReadAll(c.in); err != nil || len(rest) > 0 {
		t.Errorf("the caller got %q, %v", rest, err)
	}
	r.expectPanics(1)
}

// TestPanicInHTTP2: the other streams of its connection go on.
func TestPanicInHTTP2(t *testing.T) {
	r := start(t, func(cfg *config.Config) { cfg.H2C = true })
	_, token := r.openFaulty()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	browser := &http.Client{Transport: transport, Timeout: patience}
	events, err := browser.Get("http://" + r.addr + "/events")
	if err != nil || events.ProtoMajor != 2 {
		t.Fatal(events, err)
	}
	defer events.Body.Close()
	other := <-r.tokens
	send := func(token string) error {
		resp, err := browser.Post("http://"+r.addr+"/internal/send", "application/json", strings.NewReader(event(token, "x")))
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	if err := send(token); err == nil || !strings.Contains(err.Error(), "INTERNAL_ERROR") {
		t.Errorf("the caller got %v", err)
	}
	if err := send(other); err != nil {
		t.Error(err)
	}
	if data := (&client{t: t, in: bufio.NewReader(events.Body)}).event(); data != "x" {
		t.Errorf("the other stream got %q", data)
	}
	r.expectPanics(1)
}

// expectPanics waits until so many panics are counted: a client may see the end of its connection before that.
func (r *running) expectPanics(n int) {
	r.t.Helper()
	c := r.dial()
	want := fmt.Sprintf("ssegateway_request_panics_total %d\n", n)
	r.eventually(want, func() bool {
		c.write("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
		_, metrics := c.answer()
		return strings.Contains(metrics, "\n"+want)
	})
}

// TestPanicInStreamHandler: nor does a connection stay whose stream could not be opened for
// it. net/http's own panic, which cuts a connection on purpose, is none.
func TestPanicInStreamHandler(t *testing.T) {
	for _, test := range []struct {
		value  any
		panics int
	}{{"planted", 1}, {http.ErrAbortHandler, 0}} {
		r := prepare(t, nil)
		serve := r.clients
		r.clients = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			serve.ServeHTTP(panicking{w, test.value}, req)
		})
		r.run()
		c := r.dial()
		c.write("GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
		if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
			t.Errorf("the client got %q, %v", rest, err)
		}
		<-r.tokens
		if end := r.end(); end != "error open_failed" {
			t.Errorf("the backend was told %q", end)
		}
		r.expectPanics(test.panics)
		if n := r.gw.Stats().Pending.Load(); n != 0 {
			t.Errorf("%d connections stay", n)
		}
		r.stop()
		if err := <-r.over; err != nil {
			t.Error(err)
		}
	}
}

// panicking is a ResponseWriter that has to be hijacked, and panics then.
type panicking struct {
	http.ResponseWriter

	value any
}

func (p panicking) Header() http.Header {
	if p.value != nil {
		panic(p.value)
	}
	return p.ResponseWriter.Header()
}

// TestHurry: a long drain can be made a short one, and the backend is still told.
func TestHurry(t *testing.T) {
	r := prepare(t, func(cfg *config.Config) { cfg.DrainWindow = time.Hour })
	r.run()
	first, _ := r.stream()
	second, _ := r.stream()
	begin := time.Now()
	r.stop()
	r.end() // the one that is closed at once
	r.Hurry()
	for _, c := range []*client{first, second} {
		if rest, err := io.ReadAll(c.in); err != nil || !strings.HasPrefix(string(rest), ": heartbeat\n\nretry: ") {
			t.Errorf("a client got %q, %v", rest, err)
		}
	}
	if end := r.end(); end != "server_closed draining" {
		t.Errorf("the backend was told %q", end)
	}
	if err := <-r.over; err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 4500*time.Millisecond {
		t.Errorf("it took %v", took)
	}
}

// TestDrainThatHangs: what holds a lock for ever does not keep the process from its end.
func TestDrainThatHangs(t *testing.T) {
	r := prepare(t, nil)
	r.run()
	c, _, err := r.gw.Connect(t.Context(), []byte(`{"url":"/stuck"}`))
	if err != nil {
		t.Fatal(err)
	}
	free := make(chan struct{})
	defer close(free)
	s := &stuckStream{free: free}
	if !c.Open(s, frame.Frame{}, gateway.Grant{}) {
		t.Fatal("not open")
	}
	s.armed.Store(true)
	begin := time.Now()
	r.stop()
	select {
	case err := <-r.over:
		if err == nil || !strings.Contains(err.Error(), errDrainHangs.Error()) {
			t.Errorf("Run returned %v", err)
		}
	case <-time.After(patience):
		t.Fatal("Run does not return")
	}
	if took := time.Since(begin); took > 6*time.Second {
		t.Errorf("it took %v", took)
	}
}

type stuckStream struct {
	faulty

	free chan struct{}
}

func (s *stuckStream) Write(p []byte) (int, gateway.Detail) {
	if s.armed.Load() { // not while it opens
		<-s.free
	}
	return len(p), 0
}
