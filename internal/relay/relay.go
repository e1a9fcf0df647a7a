// Package relay stands in front of an application that answers requests by itself, and passes them on. By the answer it
// holds a stream as after an accepted callback, writes a stream of the application's block by block, or passes the
// answer through.
package relay

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ssegateway/internal/api"
	"ssegateway/internal/broker"
	"ssegateway/internal/callback"
	"ssegateway/internal/connections"
	"ssegateway/internal/edge"
	"ssegateway/internal/gateway"
)

// Config is what a Relay works with. All fields are required, where nothing else is said.
type Config struct {
	Forwarder Forwarder
	Paths     []string // prefixes of whole segments of the raw path, each without a "/" at its end; "" is all
	Gateway   *gateway.Gateway
	Streams   Streams
	MaxBody   int64 // bytes of one block of a stream, and of the body of a request that is not passed on
	MaxBodies int   // requests at a time whose bodies are sent on as they come
	// Resume is for how long an answer is there for those who come back, if the backend does not say; 0: it is not.
	Resume      time.Duration
	AnswerBytes int64                                 // that are kept of an answer, the cost of its events included
	BudgetBytes int64                                 // that are kept of all
	Position    func(context.Context) broker.Position // of the log
	Trusts      func(peer netip.Addr) bool            // whether a peer's forwarding fields are continued
	Peer        func(r *http.Request) netip.Addr
	// Ask asks the node that has an answer, with an error as router.Router.AskAnswer; nil: there are no others.
	Ask func(ctx context.Context, q connections.AnswerQuestion) (connections.AnswerReply, error)
	// LastEventID returns the id of the event that a request has got last; "" if it names none.
	LastEventID func(r *http.Request) string
	// SameAddress reports whether two addresses count as one.
	SameAddress func(a, b netip.Addr) bool
	// Encode returns the request as callbacks repeat it; ok is false if it is too large.
	Encode func(r *http.Request) (request []byte, ok bool)
	// Refuse answers with an error of the gateway's own.
	Refuse func(w http.ResponseWriter, r *http.Request, e *api.Error)
	// Reject answers a request for which there is no room: err is one of Forward, Hold or Relay of package gateway.
	Reject func(w http.ResponseWriter, r *http.Request, request []byte, err error)
	// Hold opens the stream of a connection, if the gateway takes the backend's answer, and else answers.
	Hold func(w http.ResponseWriter, r *http.Request, c *gateway.Conn, answer gateway.Answer)
	Log  *slog.Logger
}

// Forwarder sends requests to the backend, as *callback.Forwarder does.
type Forwarder interface {
	Send(r *http.Request, interim func(early *http.Response)) (*http.Response, error)
}

// Streams open the streams of connections, as *stream.Opener does.
type Streams interface {
	OpenAs(w http.ResponseWriter, r *http.Request, c *gateway.Conn, g gateway.Grant)
}

// Relay passes requests on. Its methods may be called concurrently.
type Relay struct {
	cfg     Config
	proxy   httputil.ReverseProxy
	open    atomic.Int64
	unkept  atomic.Uint64
	returns atomic.Uint64
	book    book
	alone   lonely
	streams sync.WaitGroup
	waiting waiting

	compressed, unproven, untrusted, unreadable, ungranted sync.Once
}

// New makes a Relay. Wait has to be called in the end.
func New(cfg Config) *Relay {
	r := &Relay{cfg: cfg, waiting: waiting{most: cfg.MaxBodies}}
	r.proxy = httputil.ReverseProxy{
		Rewrite: r.rewrite, Transport: transport{cfg.Forwarder}, ModifyResponse: r.decide, ErrorHandler: r.fail,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), BufferPool: &buffers{}, FlushInterval: -1, // as it comes
	}
	return r
}

// Backends returns how many connections to the backend relayed requests have.
func (r *Relay) Backends() int { return int(r.open.Load()) }

// Wait waits until the goroutines of all streams have ended. The gateway has to have ended its connections.
func (r *Relay) Wait() { r.streams.Wait() }

// Covers reports whether requests with this raw path are relayed.
func (r *Relay) Covers(path string) bool { return Covers(r.cfg.Paths, path) }

// Covers reports whether one of these prefixes covers a path.
func Covers(prefixes []string, path string) bool {
	for _, prefix := range prefixes {
		if rest, ok := strings.CutPrefix(path, prefix); ok && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
}

type exchangeKey struct{}

// exchange is one relayed request.
type exchange struct {
	w       http.ResponseWriter
	in      *http.Request // as it came
	conn    *gateway.Conn
	request []byte
	asked   broker.Position    // before the backend was
	body    *body              // what the backend gets as it comes; nil: none
	ctx     context.Context    // of the backend's request
	cancel  context.CancelFunc // ends that
	over    chan struct{}      // closed when the handler is over; nil without a body that is waited for
	since   time.Time          // when it began to wait for that
	// Guarded by the lock of waiting:
	place     *list.Element // nil: it is none of those
	makesRoom bool
	// The answer, if it is not passed through.
	answer  *http.Response
	held    bool
	resume  time.Duration // as the backend says
	settled bool          // the connection has become the gateway's
}

func of(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// ServeHTTP relays a request. For a stream over HTTP/1 it returns when that has begun.
func (r *Relay) ServeHTTP(w http.ResponseWriter, in *http.Request) {
	if e := r.refusal(in); e != nil {
		if e.Status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
		}
		r.cfg.Refuse(w, in, e)
		return
	}
	if k, n, ok := parseID(r.cfg.LastEventID(in)); ok && !isPreflight(in) {
		r.serveReturn(w, in, k, n)
		return
	}
	request, ok := r.cfg.Encode(in)
	if !ok {
		r.cfg.Refuse(w, in, api.ErrRequestTooLarge)
		return
	}
	small, err := readSmall(in)
	if err != nil {
		r.cfg.Refuse(w, in, api.ErrRequestBody)
		return
	}
	if Incomplete(in) {
		if !r.waiting.enter() && (!r.MakeRoom(in.Context(), true) || !r.waiting.enter()) {
			r.cfg.Reject(w, in, request, gateway.ErrFull)
			return
		}
		defer r.waiting.leave()
	}
	// The stream of an answer outlives the handler, and so does the request to the backend. It must not keep what the
	// handler has worked with.
	ctx, cancel := context.WithCancel(context.Background())
	left := context.AfterFunc(in.Context(), cancel)
	c, err := r.cfg.Gateway.Forward(request, cancel)
	for gateway.IsFull(err) && r.MakeRoom(in.Context(), Incomplete(in)) {
		c, err = r.cfg.Gateway.Forward(request, cancel)
	}
	if err != nil {
		left()
		cancel()
		r.cfg.Reject(w, in, request, err)
		return
	}
	x := &exchange{w: w, in: in, conn: c, request: request, asked: r.cfg.Position(in.Context()), cancel: cancel}
	r.open.Add(1)
	streams := false
	defer func() { // also after a panic no connection stays
		if x.over != nil {
			r.waiting.came(x)
			defer r.waiting.over(x)
		}
		if streams {
			return
		}
		left()
		cancel()
		r.open.Add(-1)
		if !x.settled {
			c.Pass()
		}
	}()
	x.ctx = context.WithValue(ctx, exchangeKey{}, x)
	out := in.WithContext(x.ctx)
	switch {
	case small != nil:
		out.Body = io.NopCloser(bytes.NewReader(small))
	case in.Body != nil && in.Body != http.NoBody:
		r.waiting.begin(x)
		x.body = &body{in: in, come: func() { r.waiting.came(x) }}
		out.Body = x.body
	}
	in.Header.Del("Upgrade") // is not passed on: RFC 9110 section 7.8
	in.Header.Del("Http2-Settings")
	sniff := w.Header()["X-Content-Type-Options"]
	w.Header().Del("X-Content-Type-Options")
	w.Header()["Content-Type"] = nil // net/http adds none where the backend has none
	r.proxy.ServeHTTP(w, out)
	if x.answer == nil {
		return
	}
	w.Header().Del("Content-Type")
	if x.held {
		w.Header()["X-Content-Type-Options"] = sniff
		r.hold(w, in, x)
		return
	}
	streams = true
	a := r.newAnswer(x)
	left()
	if err := c.Relay(a, 0); err != nil {
		_ = x.answer.Body.Close()
		a.end(gone)
		r.cfg.Reject(w, in, request, err)
		return
	}
	a.add(c)
	if in.Context().Err() != nil { // it has left, and nobody knows how to come back
		a.end(gone)
	}
	head, backend := a.head, x.answer.Header
	if !a.keeping {
		a.head = nil // nobody comes back
	}
	r.streams.Add(1)
	go r.pump(a, x.answer.Body)
	x.answer.Header, x.w = nil, nil
	if x.over == nil {
		x.in = nil
	}
	r.openAs(w, in, c, head, backend)
}

// refusal returns why a request is not passed on; nil: it is.
func (r *Relay) refusal(in *http.Request) *api.Error {
	path, _, _ := strings.Cut(in.RequestURI, "?")
	switch {
	case in.Method == http.MethodConnect || in.Method == http.MethodTrace:
		return api.ErrMethod
	case hasDotSegment(path):
		return api.ErrDotSegment
	case edge.HasTwoLengths(in):
		return api.ErrTwoLengths
	case isWebSocket(in.Header):
		return api.ErrUpgrade
	}
	return nil
}

// hasDotSegment reports whether a path, decoded once, has a segment that names this or the one above it. Whoever
// resolves it behind the gateway would see another path than the gateway has. Some drop what follows a ";" first.
func hasDotSegment(path string) bool {
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return true
	}
	for segment := range strings.FieldsFuncSeq(decoded, func(c rune) bool { return c == '/' || c == '\\' }) {
		if name, _, _ := strings.Cut(segment, ";"); name == "." || name == ".." {
			return true
		}
	}
	return false
}

func isWebSocket(h http.Header) bool {
	for _, offers := range h["Upgrade"] {
		for offer := range strings.SplitSeq(offers, ",") {
			if name, _, _ := strings.Cut(strings.TrimSpace(offer), "/"); strings.EqualFold(name, "websocket") {
				return true
			}
		}
	}
	return false
}

// fail answers a request that the backend has not answered.
func (r *Relay) fail(w http.ResponseWriter, out *http.Request, err error) {
	x := of(out.Context())
	if x.answer != nil {
		return // it is served elsewhere
	}
	w.Header().Del("Content-Type")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if x.body == nil && x.in.Context().Err() != nil { // net/http ends it too when a body does not come
		panic(http.ErrAbortHandler) // nobody is there
	}
	e := api.ErrBackendDown
	switch {
	case errors.Is(err, callback.ErrNoAnswer):
		e = api.ErrBackendTimeout
	case errors.Is(err, callback.ErrBadAnswer):
		e = api.BackendError(http.StatusBadGateway)
	case errors.Is(err, callback.ErrBody), r.waiting.made(x):
		e = api.ErrRequestBody
	}
	r.cfg.Log.DebugContext(x.in.Context(), "not relayed", "token", x.conn.Token().String(), "code", e.Code, "error", err.Error())
	r.cfg.Refuse(w, x.in, e)
}

// buffers are what answers are copied by.
type buffers struct{ pool sync.Pool }

const bufferBytes = 32 << 10

// Get implements httputil.BufferPool.
func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[bufferBytes]byte); ok {
		return p[:]
	}
	return make([]byte, bufferBytes)
}

// Put implements httputil.BufferPool.
func (b *buffers) Put(p []byte) { b.pool.Put((*[bufferBytes]byte)(p)) }
