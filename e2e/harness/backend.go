package harness

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// KeyHeader is the request header by which a client names one of its connections. The
// callbacks of that connection carry its value, which selects their script.
const KeyHeader = "x-open"

// Callback is a callback that the backend received.
type Callback struct {
	At     time.Time
	Method string
	Target string // raw
	Header http.Header
	TLS    *tls.ConnectionState // nil: without TLS
	Body   []byte               // raw
	Err    error                // the error in the body, if any

	Action, Token, Reason, Detail string
	URL                           string            // request.url
	Headers                       map[string]string // request.headers
	Key                           string            // value of the connection's KeyHeader

	// Context ends when the gateway no longer waits for the answer, or the test has ended.
	Context context.Context
}

// Answer is the backend's answer to a callback. The zero Answer is an empty 200.
type Answer struct {
	Status int
	Header http.Header
	Body   string
	Drop   bool // close the connection instead of answering
	HangUp bool // close the connection right after answering, without announcing it
	// Then is called once Drop or HangUp has closed the connection.
	Then func()
	// Write, if set, writes the answer itself.
	Write func(http.ResponseWriter)
}

// Script has the functions that answer the callbacks of a connection; nil answers an empty
// 200. They run on goroutines of the backend, and may block until the callback's Context ends.
type Script struct {
	Connect    func(*Callback) Answer
	Disconnect func(*Callback) Answer
}

// Backend receives callbacks on a real listener, records them, and answers them by script.
type Backend struct {
	Port int

	calm     context.Context
	calmDown context.CancelFunc

	mu       sync.Mutex
	server   *http.Server
	forget   bool // keep no calls
	changed  chan struct{}
	calls    []*Callback
	scripts  map[string]Script           // by key; "" is for connections without one
	batch    func(*Callback) Answer      // of disconnects in one callback
	conns    map[net.Conn]http.ConnState // open connections
	accepted int
}

// NewBackend listens on a free port of all addresses.
func NewBackend() (*Backend, error) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		return nil, err
	}
	b := NewBackendAt(l)
	b.Port = l.Addr().(*net.TCPAddr).Port
	return b, nil
}

// NewBackendAt serves a listener, which may be one of TLS or of a Unix socket. It has no Port.
func NewBackendAt(l net.Listener) *Backend {
	b := &Backend{
		changed: make(chan struct{}), scripts: map[string]Script{}, conns: map[net.Conn]http.ConnState{},
	}
	b.calm, b.calmDown = context.WithCancel(context.Background())
	b.listen(l)
	return b
}

func (b *Backend) listen(l net.Listener) {
	server := &http.Server{
		Handler:           http.HandlerFunc(b.serve),
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		ConnState:         b.track,
	}
	b.mu.Lock()
	b.server = server
	b.mu.Unlock()
	go func() { _ = server.Serve(l) }()
}

// Leave stops listening and cuts every connection, as a backend does that is killed.
func (b *Backend) Leave() {
	b.mu.Lock()
	server := b.server
	b.mu.Unlock()
	_ = server.Close()
}

// ComeBack ends Leave: the backend listens on its Port again.
func (b *Backend) ComeBack() error {
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", b.Port))
	if err != nil {
		return err
	}
	b.listen(l)
	return nil
}

// URL returns the callback URL with this path and query.
func (b *Backend) URL(pathAndQuery string) string {
	return fmt.Sprintf("http://127.0.0.1:%d%s", b.Port, pathAndQuery)
}

// On sets the script of the connections with that key.
func (b *Backend) On(key string, s Script) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.scripts[key] = s
}

// OnBatch sets how callbacks with several disconnects are answered, whatever their connections' scripts say.
func (b *Backend) OnBatch(answer func(*Callback) Answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.batch = answer
}

// CalmDown ends all scripts. From then on every callback is answered with an empty 200 at once.
func (b *Backend) CalmDown() { b.calmDown() }

// Close ends all scripts like CalmDown, and stops listening.
func (b *Backend) Close() {
	b.calmDown()
	b.Leave()
}

// Forget keeps no record of the callbacks from now on, for tests that cause very many: Calls and Await do not see them.
func (b *Backend) Forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget = true
}

// Accepted returns how many connections were accepted so far.
func (b *Backend) Accepted() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.accepted
}

// track follows the states of the connections.
func (b *Backend) track(conn net.Conn, s http.ConnState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch s {
	case http.StateNew:
		b.accepted++
		b.conns[conn] = s
	case http.StateActive, http.StateIdle:
		b.conns[conn] = s
	case http.StateHijacked, http.StateClosed:
		delete(b.conns, conn)
	}
	b.notifyLocked()
}

// notifyLocked wakes everything that waits for a change.
func (b *Backend) notifyLocked() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// CloseIdle waits until no callback is under way, and closes all connections, as a server
// does after an idle timeout. It returns how many there were.
func (b *Backend) CloseIdle(patience time.Duration) (int, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		n, changed := b.closeIdle()
		if changed == nil {
			return n, nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return 0, fmt.Errorf("callbacks are still under way: %w after %v", ErrTimeout, patience)
		}
	}
}

// closeIdle closes all connections. If a callback is under way, it closes none, and returns
// a channel to wait for.
func (b *Backend) closeIdle() (int, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, state := range b.conns {
		if state == http.StateActive {
			return 0, b.changed
		}
	}
	for conn := range b.conns {
		conn.Close()
	}
	return len(b.conns), nil
}

// Calls returns the callbacks so far for which match returns true, in the order of arrival.
func (b *Backend) Calls(match func(*Callback) bool) []*Callback {
	b.mu.Lock()
	defer b.mu.Unlock()
	var calls []*Callback
	for _, c := range b.calls {
		if match(c) {
			calls = append(calls, c)
		}
	}
	return calls
}

// Await waits until there are n such callbacks, and returns all of them. It calls match once for each
// callback.
func (b *Backend) Await(patience time.Duration, n int, match func(*Callback) bool) (calls []*Callback, err error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for next := 0; ; {
		b.mu.Lock()
		fresh, changed := b.calls[next:], b.changed
		b.mu.Unlock()
		next += len(fresh)
		for _, c := range fresh {
			if match(c) {
				calls = append(calls, c)
			}
		}
		if len(calls) >= n {
			return calls, nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return calls, fmt.Errorf("%d of %d callbacks: %w after %v", len(calls), n, ErrTimeout, patience)
		}
	}
}

func (b *Backend) serve(w http.ResponseWriter, r *http.Request) {
	c := &Callback{At: time.Now(), Method: r.Method, Target: r.RequestURI, Header: r.Header, TLS: r.TLS}
	c.Body, c.Err = io.ReadAll(r.Body)
	if c.Err == nil {
		c.Err = c.decode()
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(b.calm, cancel)()
	c.Context = ctx

	b.mu.Lock()
	if !b.forget {
		b.calls = append(b.calls, c)
	}
	script, batch := b.scripts[c.Key], b.batch
	b.notifyLocked()
	b.mu.Unlock()

	var a Answer
	switch {
	case b.calm.Err() != nil:
	case c.Action == "connect" && script.Connect != nil:
		a = script.Connect(c)
	case c.Action == "disconnect" && script.Disconnect != nil:
		a = script.Disconnect(c)
	case c.Action == "disconnects" && batch != nil:
		a = batch(c)
	}
	a.write(w)
}

// decode parses the body, and requires its fields to be strings.
func (c *Callback) decode() error {
	var body struct {
		Action, Token, Reason, Detail string
		Request                       struct {
			URL     string
			Headers map[string]string
		}
	}
	if err := json.Unmarshal(c.Body, &body); err != nil {
		return err
	}
	c.Action, c.Token, c.Reason, c.Detail = body.Action, body.Token, body.Reason, body.Detail
	c.URL, c.Headers = body.Request.URL, body.Request.Headers
	c.Key = c.Headers[KeyHeader]
	return nil
}

func (a Answer) write(w http.ResponseWriter) {
	if a.Write != nil {
		a.Write(w)
		return
	}
	if a.Drop || a.HangUp {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		if a.Then != nil {
			defer a.Then()
		}
		defer conn.Close()
		if a.HangUp {
			fmt.Fprintf(conn, "HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s", max(a.Status, 200), len(a.Body), a.Body)
		}
		return
	}
	for name, values := range a.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(max(a.Status, 200))
	_, _ = io.WriteString(w, a.Body)
}
