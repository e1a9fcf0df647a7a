package edge

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// bodyTimeout is how long a peer may send nothing of its request's body.
	bodyTimeout = 10 * time.Second
	// After bodyGrace at least bodyRate bytes have to come in each bodyTimeout.
	bodyGrace = 30 * time.Second
	bodyRate  = 1 << 10
	// drainTimeout is how long the rest of a body that nobody wants is read. A connection that
	// is closed over unread bytes may lose the answer on its way; if the body ends, the
	// connection can be used again.
	drainTimeout = time.Second
)

type connKey struct{}

// Context is for http.Server.ConnContext: it lets Handler find the connection of a request.
func Context(ctx context.Context, nc net.Conn) context.Context {
	if c := Of(nc); c != nil {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// Of returns the edge's Conn for an accepted connection, or nil.
func Of(nc net.Conn) *Conn {
	if c, ok := nc.(*Conn); ok {
		return c
	}
	over, ok := nc.(interface{ NetConn() net.Conn }) // TLS
	if !ok {
		return nil
	}
	c, _ := over.NetConn().(*Conn)
	return c
}

// From returns the connection on which a request came, or nil.
func From(ctx context.Context) *Conn {
	c, _ := ctx.Value(connKey{}).(*Conn)
	return c
}

// Track is for http.Server.ConnState.
func Track(nc net.Conn, state http.ConnState) {
	if c := Of(nc); c != nil && state == http.StateIdle {
		c.rest()
	}
}

// rest is called when the answers of a connection are out. Between the end of a handler and this, an answer may be in
// a buffer of net/http, and a connection that made room then would lose it.
func (c *Conn) rest() {
	c.edge.mu.Lock()
	defer c.edge.mu.Unlock()
	c.idle = true
	if c.list == &c.edge.fresh {
		c.leaveListLocked()
		c.edge.used.push(c)
	}
}

// Handler reports to the edge when a handler works for a peer, and bounds how long the peer may
// take to send its body and to take its answer. An answer does not wait for a body that
// the handler does not read.
func Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := From(r.Context())
		if c == nil {
			next.ServeHTTP(w, r)
			return
		}
		if isPreface(w, r) {
			with := *r
			with.ProtoMajor, with.ProtoMinor, r = 1, 1, &with
		}
		var b *body
		if r.Body != http.NoBody {
			b = &body{ReadCloser: r.Body, conn: c, header: w.Header(), control: http.NewResponseController(w), timeout: bodyTimeout}
			with := *r // net/http looks at its own request's body when this is over
			with.Body, r = b, &with
			if r.ProtoMajor == 1 {
				_ = b.control.EnableFullDuplex() // HTTP/1 has it
			}
		}
		if r.ProtoMajor == 1 {
			c.handled++
			if c.isUncertain() || isLeaving(r) {
				w.Header().Set("Connection", "close")
			}
		}
		accounted := accountsFor(r)
		c.begin(r.ProtoMajor > 1, accounted)
		c.inBody.Store(b != nil && r.ProtoMajor == 1)
		var begun time.Time
		if r.ProtoMajor > 1 {
			begun = time.Now()
		}
		returned := false // else it panicked
		defer func() {
			if b != nil {
				b.finish()
			}
			c.end(w, r, b, begun, accounted, returned)
		}()
		next.ServeHTTP(w, r)
		returned = true
	})
}

// isUncertain reports whether a proxy may have seen the end of the request of HTTP/1 that is handled elsewhere, so that
// nothing may be read after it: see framing.
func (c *Conn) isUncertain() bool { return c.framing.uncertain.Load() == c.handled }

// isPreface reports whether a request of HTTP/1 is a preface of HTTP/2, with a header or without, which net/http passes
// on as a request of HTTP/2 for handlers that take the connection over. Its Proto stays "HTTP/2.0".
func isPreface(w http.ResponseWriter, r *http.Request) bool {
	if r.ProtoMajor != 2 {
		return false
	}
	_, isHTTP1 := w.(http.Hijacker)
	return isHTTP1
}

// isLeaving reports whether a peer that speaks HTTP/1.0 closes behind its request. net/http keeps the
// connection if it names keep-alive, too; but close counts (RFC 9112 section 9.3).
func isLeaving(r *http.Request) bool { return !r.ProtoAtLeast(1, 1) && r.Close }

// accountsFor returns how many bytes a request may have taken. Over HTTP/2 a header may be much
// larger than what was sent of it.
func accountsFor(r *http.Request) int64 {
	if r.ProtoMajor == 1 {
		return maxHead
	}
	n := int64(minHead + len(r.RequestURI))
	for name, values := range r.Header {
		for _, v := range values {
			n += int64(len(name) + len(v))
		}
	}
	return min(n, maxHead)
}

func (c *Conn) begin(http2 bool, accounted int64) {
	c.allowed.Add(accounted)
	c.edge.mu.Lock()
	defer c.edge.mu.Unlock()
	c.beginLocked(http2)
}

func (c *Conn) beginLocked(http2 bool) {
	c.http2, c.idle, c.requests = http2, false, true
	c.working++
	c.moveLocked()
}

// resetTime is how soon a peer that cancels a request counts as one that asked for nothing.
const resetTime = time.Second

// end is called when a handler has returned or panicked. Its answer may still be on its way.
func (c *Conn) end(w http.ResponseWriter, r *http.Request, b *body, begun time.Time, accounted int64, returned bool) {
	if c.handedOver.Load() {
		return
	}
	switch {
	case b == nil || r.ProtoMajor != 1:
	case returned:
		b.drain()
		defer b.abort()
	default: // there is no answer, and net/http closes the connection, but would wait for the body first
		_ = b.control.SetReadDeadline(time.Unix(1, 0))
	}
	c.done()
	switch {
	case r.ProtoMajor == 1:
	case r.Context().Err() == nil:
		// The peer may hold back this answer while it takes others.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(c.answerTimeout()))
	case time.Since(begun) < resetTime:
		c.allowed.Add(-accounted)
	}
}

// done is called when a handler no longer works for the peer.
func (c *Conn) done() {
	c.edge.mu.Lock()
	defer c.edge.mu.Unlock()
	c.working--
	c.moveLocked()
}

// Trust records that the peer of a request may call the internal API. Its connection belongs
// to that API from now on. Call it before anything is written to the answer.
func Trust(ctx context.Context) {
	c := From(ctx)
	if c == nil || c.exempt.Swap(true) {
		return
	}
	c.edge.mu.Lock()
	if c.counted && !c.internal {
		c.internal = true
		c.edge.internal++
	}
	c.edge.mu.Unlock()
	if tcp, ok := c.Conn.(TCP); ok {
		// A listener for streams gives its sockets small buffers, little time and no probes. A
		// caller may get long answers, and may be silent in the middle of a streaming request.
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3})
		_ = tcp.SetWriteBuffer(callerSendBuffer)
		waitForCaller(tcp)
	}
}

// callerSendBuffer is SO_SNDBUF in bytes, of a connection of the internal API. Linux takes it
// twice, and no more than net.core.wmem_max, which is 208 KiB unless it was changed.
const callerSendBuffer = 256 << 10

// Patient takes the deadlines off a request's body: its sender writes it bit by bit, as it is
// made. A sender that has vanished is found by the kernel's probes.
func Patient(r *http.Request) {
	if b, ok := r.Body.(*body); ok {
		b.patient = true
		_ = b.control.SetReadDeadline(time.Time{})
	}
}

// Hurry gives the peer of a request less time to send something of its body.
func Hurry(r *http.Request, timeout time.Duration) {
	if b, ok := r.Body.(*body); ok {
		b.timeout = timeout
	}
}

// Stop has no more read of the body of a request than comes within a second. It may be called while another goroutine
// reads the body, and returns at once. It does nothing when the handler is over.
func Stop(r *http.Request) { stopAt(r, time.Now().Add(drainTimeout)) }

// Abandon is Stop for a body of which nothing more is read.
func Abandon(r *http.Request) { stopAt(r, time.Unix(1, 0)) }

func stopAt(r *http.Request, at time.Time) {
	b, ok := r.Body.(*body)
	if !ok {
		return
	}
	b.stopping.Lock()
	defer b.stopping.Unlock()
	if earlier, until := b.stopped.Load(), at.UnixNano(); !b.over && (earlier == 0 || earlier > until) {
		b.stopped.Store(until)
		_ = b.control.SetReadDeadline(at)
	}
}

// finish is called when the handler is over. net/http panics when it is told of a deadline then.
func (b *body) finish() {
	b.stopping.Lock()
	defer b.stopping.Unlock()
	b.over = true
}

// HasTwoLengths reports whether a request that is being handled has a length that a proxy may have read differently: it
// has a Content-Length and a Transfer-Encoding, or is of HTTP/1.0 and has a Transfer-Encoding (RFC 9112 section 6.1).
func HasTwoLengths(r *http.Request) bool {
	c := From(r.Context())
	return c != nil && r.ProtoMajor == 1 && c.isUncertain()
}

// body is a request's, which its peer has to send.
type body struct {
	io.ReadCloser
	conn    *Conn
	header  http.Header // of the answer
	control *http.ResponseController
	patient bool
	timeout time.Duration // for the next bytes
	awaited bool          // the connection counts as one that waits for its peer
	stopped atomic.Int64  // when reading ends, in Unix nanoseconds; 0: as its peer sends it
	ended   bool          // there is no more of it to read
	failure error         // why, if that is not its end

	stopping sync.Mutex // held while another goroutine ends reading
	over     bool       // the handler is over; guarded by stopping

	begun    time.Time // the first read; zero: none yet
	received int64     // bytes since counted
	counted  time.Time
	returned time.Time // when the last read was over
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.patient {
		n, err := b.ReadCloser.Read(p)
		b.conn.allowed.Add(int64(n))
		if err != nil {
			b.end(err)
		}
		return n, err
	}
	now := time.Now()
	if b.begun.IsZero() {
		b.begun, b.counted, b.returned = now, now, now
		b.await(true)
	}
	b.counted = b.counted.Add(now.Sub(b.returned)) // meanwhile nothing was asked of the peer
	deadline := now.Add(b.timeout)
	if now.Sub(b.begun) >= bodyGrace { // the rate has to be kept up: a byte now and then is not enough
		deadline = b.counted.Add(bodyTimeout)
	}
	_ = b.control.SetReadDeadline(deadline)
	if until := b.stopped.Load(); until != 0 { // behind the deadline, so that none of the two is lost
		_ = b.control.SetReadDeadline(time.Unix(0, until))
	}
	n, err := b.ReadCloser.Read(p)
	b.conn.allowed.Add(int64(n))
	b.returned = time.Now()
	if b.received += int64(n); b.received >= bodyRate || b.returned.Sub(b.begun) < bodyGrace {
		b.received, b.counted = 0, b.returned
	}
	if err != nil {
		b.end(err)
	}
	return n, err
}

// end is called when reading has reached the end of the body, or failed.
func (b *body) end(err error) {
	b.ended = true
	if errors.Is(err, io.EOF) {
		b.conn.inBody.Store(false)
		_ = b.control.SetReadDeadline(time.Time{})
	} else {
		b.failure = err
		if b.conn.inBody.Load() { // HTTP/1: abort closes the connection, and an answer that is not on its way yet says so
			b.header.Set("Connection", "close")
		}
	}
	b.await(false)
}

// await sets whether the connection counts as one that waits for its peer's body.
func (b *body) await(on bool) {
	if b.awaited == on {
		return
	}
	b.awaited = on
	c := b.conn
	c.edge.mu.Lock()
	defer c.edge.mu.Unlock()
	if on {
		c.working--
		c.bodies++
	} else {
		c.working++
		c.bodies--
	}
	c.moveLocked()
}

// drain sends the answer and reads what the handler left of the body. net/http must not be left
// to do that: in full duplex it reads the next request beside the end of this one's body.
func (b *body) drain() {
	if b.ended {
		return
	}
	_ = b.control.Flush()
	b.await(true)
	_ = b.control.SetReadDeadline(time.Now().Add(drainTimeout))
	_, err := io.Copy(drained{b.conn}, b.ReadCloser)
	if err == nil {
		err = io.EOF
	}
	b.end(err)
}

// drained accounts for the bytes of a body that are read and dropped. They are no flood: the
// sender may not have seen the answer yet.
type drained struct{ conn *Conn }

func (d drained) Write(p []byte) (int, error) {
	d.conn.allowed.Add(int64(len(p)))
	return len(p), nil
}

// abort ends the connection of a body that was malformed, or did not come. Its end is unknown,
// and net/http would take what it has read already for the next request.
func (b *body) abort() {
	if b.failure == nil {
		return
	}
	_ = b.control.Flush()
	if !errors.Is(b.failure, os.ErrDeadlineExceeded) {
		// What still comes is taken for a while, so that the answer is not lost on its way.
		_ = b.conn.CloseWrite()
		_ = b.conn.Conn.SetReadDeadline(time.Now().Add(drainTimeout))
		_, _ = io.Copy(io.Discard, b.conn.Conn)
	}
	panic(http.ErrAbortHandler)
}
