package callback

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"ssegateway/internal/guard"
)

// Errors of Forwarder.Send. None of them quotes the URL or what the backend sent.
var (
	// ErrUnreachable: no connection, or it broke before an answer.
	ErrUnreachable = errors.New("the backend cannot be reached, or broke the connection off")
	// ErrNoAnswer: the request was sent, and no answer came in time.
	ErrNoAnswer = errors.New("the backend did not answer in time")
	// ErrBadAnswer: what came is no HTTP, or its head is too large or was cut.
	ErrBadAnswer = errors.New("the backend's answer is not HTTP")
	// ErrBody: the request's own body was malformed, or did not come.
	ErrBody = errors.New("the body of the request did not come")
)

// ForwarderConfig says where a Forwarder sends requests.
type ForwarderConfig struct {
	URL         *url.URL                // http or https; only its host counts
	Timeout     time.Duration           // from the end of a request to the head of its answer
	MaxIdle     int                     // connections that are kept for the next request
	Authorities func() *x509.CertPool   // as in Config
	Certificate func() *tls.Certificate // as in Config
}

// Forwarder carries requests that others have made to a backend, on connections like those of callbacks. They are requests
// that a server has read: their RequestURI and Host are sent byte for byte. A request
// without a body, or with a small one, takes no goroutine but the caller's. Its methods may be called concurrently.
type Forwarder struct {
	timeout time.Duration
	pool    pool
}

// NewForwarder makes a Forwarder. Close has to be called in the end.
func NewForwarder(cfg ForwarderConfig) *Forwarder {
	f := &Forwarder{timeout: cfg.Timeout}
	f.pool.init(cfg.URL, Config{Authorities: cfg.Authorities, Certificate: cfg.Certificate})
	f.pool.maxIdle = cfg.MaxIdle
	return f
}

// Close closes the idle connections. Others are closed when their answers end.
func (f *Forwarder) Close() { f.pool.close() }

// SmallBody is how many bytes of a body of known length are read before anything is sent, so that the request goes
// out in one write, and can be begun again if a connection turns out to be closed.
const SmallBody = 16 << 10

// connectTimeout bounds the making of a connection.
const connectTimeout = 5 * time.Second

// Send sends a request and returns the answer, as an http.RoundTripper. interim, if not nil, gets each answer before it
// (RFC 9110 section 15.2), in the caller's goroutine. Closing the answer's body before its end closes the backend's
// connection; so does the end of the request's context. Close waits until the request's body is no longer read. The
// request's trailer is not sent.
func (f *Forwarder) Send(r *http.Request, interim func(*http.Response)) (*http.Response, error) {
	message := appendForwarded(make([]byte, 0, 2<<10), r)
	var rest io.ReadCloser
	switch {
	case r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0:
	case r.ContentLength > 0 && r.ContentLength <= SmallBody:
		head := len(message)
		message = append(message, make([]byte, r.ContentLength)...)
		if _, err := io.ReadFull(r.Body, message[head:]); err != nil {
			return nil, ErrBody
		}
	default:
		rest = r.Body
	}
	response, again, err := f.attempt(r, message, rest, interim, false)
	for n := 1; again && n < maxConnections; n++ {
		response, again, err = f.attempt(r, message, rest, interim, true)
	}
	return response, err
}

// attempt is as Client.attempt, for a request that may have a body.
func (f *Forwarder) attempt(r *http.Request, message []byte, rest io.ReadCloser, interim func(*http.Response), fresh bool) (_ *http.Response, again bool, _ error) {
	ctx := r.Context()
	c, err := f.pool.get(ctx, time.Now().Add(min(connectTimeout, f.timeout)), fresh)
	if err != nil {
		return nil, false, ErrUnreachable
	}
	x := &forwarded{f: f, conn: c, ctx: ctx}
	x.stop = context.AfterFunc(ctx, func() { _ = c.SetDeadline(longAgo) })
	before, started := *c.written, time.Now()
	x.deadline(c.SetWriteDeadline, f.timeout)
	_, writeErr := c.Conn.Write(message)
	if writeErr == nil && rest != nil {
		_ = c.SetReadDeadline(time.Time{})
		x.sent = make(chan struct{})
		x.rest = rest
		go x.send(r.ContentLength < 0)
	} else {
		x.await()
	}
	err = writeErr
	var response *http.Response
	if err == nil || *c.written > before && !isTimeout(err) {
		c.limit.left = headLimit
		response, err = readHead(c, r, interim)
	}
	if err == nil {
		c.limit.left = math.MaxInt
		x.headCame()
		x.body, x.keep = response.Body, writeErr == nil && !response.Close
		if response.Body == http.NoBody {
			x.end(true)
		} else {
			response.Body = x
		}
		return response, false, nil
	}
	timedOut := isTimeout(err)
	again = false
	if rest == nil && !timedOut && !errors.Is(err, errMalformed) && !errors.Is(err, errTooLong) && !errors.Is(err, errCut) {
		soon := time.Since(started) < staleWindow
		fate := c.fate(before, err)
		again = fate == untouched || fate == unread && c.reused && soon
	}
	// net/http ends the context before the read of a body fails. Both are looked at before end, which makes it fail.
	malformed := ctx.Err() != nil && x.isSending() || x.bodyFailed()
	x.end(false)
	switch {
	case malformed:
		return nil, false, ErrBody
	case timedOut && ctx.Err() == nil:
		return nil, false, ErrNoAnswer
	case errors.Is(err, errMalformed), errors.Is(err, errTooLong), errors.Is(err, errCut):
		return nil, false, ErrBadAnswer
	}
	return nil, again && ctx.Err() == nil, ErrUnreachable // what was read of a longer body is gone
}

// forwarded is a request on its way, and the body of its answer.
type forwarded struct {
	f    *Forwarder
	conn *conn
	ctx  context.Context
	stop func() bool // the end of ctx closes the connection no more
	body io.Reader
	keep bool // the connection can be used again, as far as the answer says
	over bool

	rest   io.ReadCloser // of the request's body; nil: all of it was sent with the head
	sent   chan struct{} // closed when the rest is no longer read; nil without one
	unsent bool          // the backend did not take all of it, or there was not all of it; before sent is closed

	mu       sync.Mutex
	failed   bool // the rest could not be read
	answered bool // the head of the answer has come: nothing is waited for any more
}

// await bounds the wait for the head of the answer.
func (x *forwarded) await() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.answered {
		x.deadline(x.conn.SetReadDeadline, x.f.timeout)
	}
}

// bodyFailed reports whether the rest of the request's body could not be read, so far.
func (x *forwarded) bodyFailed() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.failed
}

// isSending reports whether the rest of the request's body is still read.
func (x *forwarded) isSending() bool {
	select {
	case <-x.sent:
		return false
	default:
		return x.sent != nil
	}
}

// headCame ends the wait for the head.
func (x *forwarded) headCame() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.answered = true
	x.deadline(x.conn.SetReadDeadline, 0)
}

// deadline sets a deadline that many seconds from now, or none for 0. It never takes back that ctx has ended.
func (x *forwarded) deadline(set func(time.Time) error, d time.Duration) {
	var at time.Time
	if d > 0 {
		at = time.Now().Add(d)
	}
	_ = set(at)
	if x.ctx.Err() != nil {
		_ = set(longAgo)
	}
}

// send sends the rest of the request's body, and from its end on bounds the wait for the answer.
func (x *forwarded) send(chunked bool) {
	defer guard.Recover()
	defer close(x.sent)
	buf := make([]byte, 16<<10)
	for {
		n, err := x.rest.Read(buf[chunkRoom : len(buf)-2])
		if n > 0 {
			p := buf[chunkRoom : chunkRoom+n]
			if chunked {
				p = chunk(buf, n)
			}
			x.deadline(x.conn.SetWriteDeadline, x.f.timeout)
			if _, err := x.conn.Conn.Write(p); err != nil {
				x.unsent = true
				x.await() // it may have answered without reading all
				return
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			if chunked {
				if _, err := x.conn.Conn.Write(lastChunk); err != nil {
					x.unsent = true
				}
			}
			x.await()
			return
		default:
			x.unsent = true
			x.mu.Lock()
			x.failed = true
			x.mu.Unlock()
			x.conn.raw.Close() // a body that was cut must not look whole
			return
		}
	}
}

// chunkRoom is what the length of a chunk takes before it.
const chunkRoom = len("ffff\r\n")

// chunk frames the n bytes that stand in buf behind chunkRoom.
func chunk(buf []byte, n int) []byte {
	var size [chunkRoom]byte
	head := append(strconv.AppendInt(size[:0], int64(n), 16), "\r\n"...)
	start := chunkRoom - len(head)
	copy(buf[start:], head)
	copy(buf[chunkRoom+n:], "\r\n")
	return buf[start : chunkRoom+n+2]
}

// Sent waits until the request's body was read to its end, and reports whether all of it was sent.
func (x *forwarded) Sent() bool {
	if x.sent == nil {
		return true
	}
	<-x.sent
	if x.unsent {
		x.keep = false
		_ = x.rest.Close() // now, as long as there is a handler
	}
	sent := !x.unsent
	x.sent, x.rest = nil, nil
	return sent
}

// Read implements io.Reader.
func (x *forwarded) Read(p []byte) (int, error) {
	if x.over {
		return 0, io.EOF
	}
	n, err := x.body.Read(p)
	if errors.Is(err, io.EOF) {
		x.end(true)
	}
	return n, err
}

// Close implements io.Closer.
func (x *forwarded) Close() error {
	x.end(false)
	return nil
}

// end gives the connection back, if it can be used again, or closes it. The request's body is no longer read then.
func (x *forwarded) end(whole bool) {
	if x.over {
		return
	}
	x.over = true
	keep := whole && x.keep
	if x.sent != nil {
		keep = keep && !x.isSending() && !x.unsent
	}
	if !x.stop() || !keep || x.conn.in.Buffered() > 0 {
		x.conn.raw.Close()
	} else {
		_ = x.conn.SetDeadline(time.Time{})
		x.f.pool.put(x.conn)
	}
	if x.sent != nil {
		_ = x.rest.Close()
		<-x.sent
	}
}

// appendForwarded appends the head of a request. What frames its body is made anew.
func appendForwarded(b []byte, r *http.Request) []byte {
	b = append(b, r.Method...)
	b = append(b, ' ')
	b = append(b, cmp.Or(r.RequestURI, "/")...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, r.Host...)
	b = append(b, "\r\n"...)
	for name, values := range r.Header {
		switch name {
		case "Host", "Content-Length", "Transfer-Encoding", "Connection":
			continue
		case "User-Agent":
			if len(values) == 1 && values[0] == "" { // of ReverseProxy: none
				continue
			}
		}
		for _, value := range values {
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, value...)
			b = append(b, "\r\n"...)
		}
	}
	switch {
	case r.ContentLength > 0:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, r.ContentLength, 10)
		b = append(b, "\r\n"...)
	case r.Body != nil && r.Body != http.NoBody && r.ContentLength < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch:
		b = append(b, "Content-Length: 0\r\n"...)
	}
	return append(b, "\r\n"...)
}
