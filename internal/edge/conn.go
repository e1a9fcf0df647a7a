package edge

import (
	"errors"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// State is what a connection is doing.
type State uint8

// The states. In all but StateHandler the peer has to do something.
const (
	StateNew       State = iota // nothing has come yet
	StateHandshake              // of TLS
	StateHeader                 // of a request
	StateHandler                // a handler works for the peer
	StateBody                   // of a request
	StateAnswer                 // the peer has to take it
	StateIdle                   // between two requests
	StateHTTP2                  // HTTP/2 without a handler at work
)

var stateNames = [...]string{
	StateNew: "new", StateHandshake: "handshake", StateHeader: "header", StateHandler: "handler", StateBody: "body", StateAnswer: "answer", StateIdle: "idle", StateHTTP2: "http2",
}

// String returns the state's name in the metrics.
func (s State) String() string { return stateNames[s] }

// States returns all states.
func States() []State {
	return []State{StateNew, StateHandshake, StateHeader, StateHandler, StateBody, StateAnswer, StateIdle, StateHTTP2}
}

// How long a peer may take nothing of what is written to it. A caller of the internal API
// may be busy.
const (
	answerTimeout = 10 * time.Second
	callerTimeout = time.Minute
)

// What a stranger may send, in bytes, beyond what handlers take. An HTTP/2 peer can send
// endless frames that request nothing (PING, SETTINGS, PRIORITY), and each of them costs
// work. An honest peer stays far below: it only answers and acknowledges what it was sent.
const (
	floodStart   = 512 << 10 // at first
	floodSecond  = 16 << 10  // more for each second
	floodWritten = 2         // more: one byte for each 2 that were written to it

	// More for each request: what its header may have taken.
	minHead = 1 << 10
	maxHead = 40 << 10
)

// ErrFlood is the error of reading from a peer that sends too much.
var ErrFlood = errors.New("edge: the peer sends much and asks for little")

// ErrUnexpected is the error of reading from a peer that sends more behind its last request.
var ErrUnexpected = errors.New("edge: the peer sent more than its request")

// Conn is an accepted connection. To net/http it is a net.Conn.
type Conn struct {
	net.Conn

	// Fixed after construction.
	edge     *Edge
	accepted time.Time
	tls      bool    // what is carried is TLS
	refusal  Refusal // nil: net/http's own refusals are sent unchanged

	proxied *proxied // by the PROXY protocol; set before net/http gets the connection; nil: not

	handedOver atomic.Bool
	failure    atomic.Pointer[error]
	until      atomic.Int64 // the deadline for writes that was asked for, in Unix nanoseconds; 0: none
	writing    atomic.Int32
	writes     sync.RWMutex // held for reading by each write until what came of it is noted
	inBody     atomic.Bool  // HTTP/1: there is more of a request's body to come
	broken     atomic.Bool  // the body did not come in time
	behind     atomic.Bool  // HTTP/1: net/http has read a byte behind the request
	final      atomic.Bool  // HTTP/1: nothing may come behind the request
	exempt     atomic.Bool  // its peer may call the internal API: no flood
	received   atomic.Int64 // bytes
	written    atomic.Int64 // bytes
	allowed    atomic.Int64 // bytes that requests and handlers account for
	framing    framing
	handled    uint32 // requests of HTTP/1 so far; only the handler of the latest looks at it

	// Guarded by the edge's lock.
	abort      func()     // closes a socket that has no net.Conn yet; nil: it has one
	addr       netip.Addr // the peer's or client's, of IPv6 the first half; zero where it has none
	list       *list      // in which it waits for its peer; nil: a handler works for it
	prev, next *Conn
	since      time.Time     // when it began to wait
	counted    bool          // it is on the edge's account
	over       chan struct{} // what Done returned; nil: nobody has asked
	internal   bool          // it belongs to the internal API
	http2      bool
	idle       bool // net/http waits for the next request
	requests   bool // there has been one
	working    int  // handlers that work for the peer
	bodies     int  // handlers that wait for a body of the peer's
}

func (e *Edge) newConn(nc net.Conn, k Kind) *Conn {
	internal := k == Caller
	c := &Conn{Conn: nc, edge: e, accepted: time.Now(), addr: addrOf(nc.RemoteAddr()), tls: k == overTLS, internal: internal}
	c.exempt.Store(internal)
	return c
}

// addrOf returns the address of a peer. IPv6 counts by the /64, which one customer has in whole.
func addrOf(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	if addr.Is6() && !addr.IsLoopback() {
		prefix, _ := addr.Prefix(64) // an IPv6 address has one
		return prefix.Addr()
	}
	return addr
}

// stateLocked returns what the connection is doing.
func (c *Conn) stateLocked() State {
	switch {
	case c.working > 0:
		return StateHandler
	case c.bodies > 0:
		return StateBody
	case c.http2:
		return StateHTTP2
	case c.idle:
		return StateIdle
	case c.requests:
		return StateAnswer
	case c.received.Load() == 0:
		return StateNew
	case c.tls:
		return StateHandshake
	default:
		return StateHeader
	}
}

// Read implements net.Conn. When a deadline passes in the middle of a request's body, the
// connection is no longer usable: net/http would take the rest for the next request.
func (c *Conn) Read(p []byte) (int, error) {
	if c.broken.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := c.receive(p)
	if !errors.Is(err, os.ErrDeadlineExceeded) { // that is net/http's own doing
		c.note(err)
	}
	if err != nil && c.inBody.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
		c.broken.Store(true)
	}
	if err == nil && !c.tls {
		n, err = c.see(p, n)
	}
	if n > 0 && c.received.Add(int64(n)) > floodStart && c.isFlood() {
		c.edge.mu.Lock()
		c.edge.stats.Floods++
		c.edge.mu.Unlock()
		_ = c.Close()
		return 0, ErrFlood
	}
	return n, err
}

// see looks at the next n bytes of HTTP/1 that were read into p. It returns what Read is to return.
func (c *Conn) see(p []byte, n int) (int, error) {
	if n == 0 || c.handedOver.Load() {
		return n, nil
	}
	// While a handler works net/http reads one byte, to learn of the peer's end. If it gets one, it does not look again.
	if behind := len(p) == 1; behind != c.behind.Load() {
		c.behind.Store(behind)
	}
	if c.final.Load() {
		c.note(ErrUnexpected)
		return 0, ErrUnexpected
	}
	c.framing.scan(p[:n])
	return n, nil
}

// Final says that the request that is worked on is the last one of an HTTP/1 connection. If its
// peer sends more, reading fails with ErrUnexpected, and that ends the request's context. If a part of that was
// read before, it can no longer end the context, and Final returns ErrUnexpected.
func (c *Conn) Final() error {
	c.final.Store(true)
	if !c.behind.Load() {
		return nil
	}
	c.note(ErrUnexpected)
	return ErrUnexpected
}

// isFlood reports whether the peer has sent more than its requests account for.
func (c *Conn) isFlood() bool {
	if c.exempt.Load() || c.handedOver.Load() {
		return false
	}
	seconds := int64(time.Since(c.accepted) / time.Second)
	return c.received.Load() > floodStart+seconds*floodSecond+c.written.Load()/floodWritten+c.allowed.Load()
}

// Write implements net.Conn. It fails when the peer takes nothing for too long. What net/http
// writes to refuse a request goes out in the form of the listener's Refusal.
func (c *Conn) Write(p []byte) (written int, err error) {
	if c.handedOver.Load() {
		return c.Conn.Write(p)
	}
	c.writes.RLock()
	c.writing.Add(1)
	written, err = c.orRefusal(p, c.write)
	c.writing.Add(-1)
	c.note(err)
	c.writes.RUnlock()
	return written, err
}

func (c *Conn) write(p []byte) (written int, err error) {
	timeout := c.answerTimeout()
	// The kernel takes more only when much of its buffer is free, so a write may have to wait
	// for long although the peer reads. What that has acknowledged meanwhile is progress too;
	// the first look only notes how much there is.
	for last := math.MaxInt; ; {
		deadline := time.Now().Add(timeout / 2)
		asked, isAsked := c.writeDeadline()
		if isAsked && asked.Before(deadline) {
			deadline = asked
		}
		_ = c.Conn.SetWriteDeadline(deadline)
		n, err := c.Conn.Write(p[written:])
		c.written.Add(int64(n))
		written += n
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || c.handedOver.Load() || isAsked && !time.Now().Before(asked) {
			return written, err
		}
		unacked := Unacked(c.Conn)
		if n == 0 && unacked >= last {
			return written, err
		}
		last = unacked
	}
}

func (c *Conn) answerTimeout() time.Duration {
	if c.exempt.Load() {
		return callerTimeout
	}
	return answerTimeout
}

// SetWriteDeadline implements net.Conn. It can only make the edge's own deadline shorter. A
// write sets its deadline itself, so that there is nothing to do while none is under way.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	until := int64(0)
	if !t.IsZero() {
		until = t.UnixNano()
	}
	c.until.Store(until)
	if c.Writing() || c.handedOver.Load() {
		return c.Conn.SetWriteDeadline(t)
	}
	return nil
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetWriteDeadline(t), c.SetReadDeadline(t))
}

func (c *Conn) writeDeadline() (t time.Time, ok bool) {
	until := c.until.Load()
	return time.Unix(0, until), until != 0
}

// Writing reports whether a write is under way.
func (c *Conn) Writing() bool { return c.writing.Load() > 0 }

// Err returns the first error of a read or a write; nil if there was none. An error that names
// a cause takes precedence over the end of the file and a broken pipe. Where only these are known, and
// the cause may be what a write under way has got, Err waits for that write: it is for connections that are
// over, or about to be closed.
func (c *Conn) Err() error {
	err := c.failure.Load()
	if err != nil && isVague(*err) {
		c.writes.Lock()
		err = c.failure.Load()
		c.writes.Unlock()
	}
	if err == nil {
		return nil
	}
	return *err
}

// note keeps the first error that names a cause. The system reports that only once: a second
// read or write at about the same time gets the end of the file, or a broken pipe. That the connection was
// closed here is no cause: net/http closes one of which the peer has said, in TLS, that it leaves.
func (c *Conn) note(err error) {
	if err == nil || errors.Is(err, net.ErrClosed) {
		return
	}
	first := c.failure.Load()
	if first == nil || isVague(*first) && !isVague(err) {
		failure := err // only here it is on the heap
		c.failure.CompareAndSwap(first, &failure)
	}
}

func isVague(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) }

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.forget()
	return c.Conn.Close()
}

// CloseWrite closes the sending half, where the connection has halves. net/http asks for it.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Trusted reports whether the peer may call the internal API.
func (c *Conn) Trusted() bool { return c.exempt.Load() }

// NetConn returns the connection beneath. It stays the edge's.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// ended is a closed channel.
var ended = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Done returns a channel that is closed when the edge no longer owns the connection: it was closed or handed over.
func (c *Conn) Done() <-chan struct{} {
	c.edge.mu.Lock()
	defer c.edge.mu.Unlock()
	if !c.counted {
		return ended
	}
	if c.over == nil {
		c.over = make(chan struct{})
	}
	return c.over
}

// HandOver takes a connection that was hijacked off its edge's account. It returns the
// connection beneath, or for TLS the given one. The caller owns that from now on: it has no
// deadlines, and the caller counts it as long as it is open. unread is what was read of it
// and net/http has not taken yet.
func HandOver(nc net.Conn) (beneath net.Conn, unread []byte) {
	c := Of(nc)
	if c == nil {
		return nc, nil
	}
	c.handedOver.Store(true)
	if c.written.Load() > 0 {
		_ = c.Conn.SetWriteDeadline(time.Time{})
	}
	c.forget()
	if c.proxied != nil {
		unread = c.proxied.early
	}
	if nc == net.Conn(c) {
		return c.Conn, unread
	}
	return nc, unread
}

func (c *Conn) forget() {
	c.edge.mu.Lock()
	defer c.edge.mu.Unlock()
	c.edge.forgetLocked(c)
}

// moveLocked puts the connection among those that wait for their peer, or takes it out, as
// its numbers say. One that waits already keeps its place.
func (c *Conn) moveLocked() {
	switch {
	case !c.counted:
	case c.working > 0:
		c.leaveListLocked()
	case c.list == nil:
		c.since = time.Now()
		c.edge.waitingLocked(c).push(c)
	}
}
