package callback

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"sync"
	"syscall"
	"time"

	"ssegateway/internal/guard"
)

const (
	// idleTimeout is shorter than the idle timeouts of backends (2 s at gunicorn, 5 s at
	// Node), so that the gateway closes first.
	idleTimeout = time.Second

	// headLimit bounds the head of an answer, bodyLimit what is read of a body that says
	// nothing, and grantLimit the body of an acceptance.
	headLimit  = 64 << 10
	bodyLimit  = 64 << 10
	grantLimit = 1 << 20
)

// conn is a connection to the backend. One exchange at a time owns it, or the pool.
type conn struct {
	net.Conn                 // what is written to: raw, or TLS around it
	raw      net.Conn        // the transport
	sys      syscall.RawConn // of raw; nil if it is no socket
	in       *bufio.Reader   // reads through limit
	limit    limitedReader
	written  *int64 // bytes written to raw
	probe    probe

	demand demand // of the backend, for a certificate of ours

	reused    bool
	idleSince time.Time
}

// limitedReader bounds the bytes read for one answer. Beyond the bound it returns io.EOF.
type limitedReader struct {
	net.Conn
	left int
}

func (r *limitedReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, errTooLong
	}
	n, err := r.Conn.Read(p[:min(len(p), r.left)])
	r.left -= n
	return n, err
}

// countedConn counts the bytes written below TLS.
type countedConn struct {
	net.Conn
	written int64
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written += int64(n)
	return n, err
}

// pool makes connections and keeps the idle ones for a while. The most recently used
// is used first, so that after a rush the others expire.
type pool struct {
	network string // "tcp" or "unix"
	addr    string
	tls     *tlsSetup // nil: plaintext
	dial    dialFunc
	maxIdle int

	mu       sync.Mutex
	idle     []*conn // the longest idle first
	closed   bool
	timer    *time.Timer        // closes what was idle for too long; nil: none is armed
	draining map[*conn]struct{} // answers whose bodies are still coming
	drains   sync.WaitGroup
}

func (p *pool) init(u *url.URL, cfg Config) {
	port := "80"
	if u.Scheme == "https" {
		p.tls, port = &tlsSetup{host: u.Hostname(), authorities: cfg.Authorities, certificate: cfg.Certificate}, "443"
	}
	p.network, p.addr = "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port))
	if cfg.Socket != "" {
		p.network, p.addr = "unix", cfg.Socket
	}
	p.dial = newDialer()
	p.maxIdle = 2 * cfg.Concurrency
	p.draining = make(map[*conn]struct{})
}

// get returns a connection that was idle, if there is one that looks alive and fresh
// is not asked for, or else a new one.
func (p *pool) get(ctx context.Context, deadline time.Time, fresh bool) (*conn, error) {
	for !fresh {
		c := p.pop()
		if c == nil {
			break
		}
		// The backend may have closed it. Bytes that can be read before a callback was sent
		// are no answer, so they rule the connection out as well.
		if c.quiet() {
			c.reused = true
			return c, nil
		}
		c.Close()
	}
	return p.connect(ctx, deadline)
}

func (p *pool) connect(ctx context.Context, deadline time.Time) (*conn, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	raw, err := p.dial(ctx, p.network, p.addr)
	if err != nil {
		return nil, err
	}
	counted := &countedConn{Conn: direct(raw)}
	c := &conn{Conn: counted, raw: raw, written: &counted.written}
	if s, ok := raw.(syscall.Conn); ok {
		c.sys, _ = s.SyscallConn()
	}
	if p.tls != nil {
		t := tls.Client(counted, p.tls.config())
		if err := t.HandshakeContext(context.WithValue(ctx, demandKey{}, &c.demand)); err != nil {
			raw.Close()
			if refused := c.demand.refusal(); refused != nil && isAlert(err) {
				return nil, refused
			}
			return nil, err
		}
		c.demand = p.tls.remember(c.demand, t.ConnectionState().DidResume)
		c.Conn = t
	}
	c.probe.init(c)
	c.limit.Conn = c.Conn
	c.in = bufio.NewReader(&c.limit)
	return c, nil
}

func (p *pool) pop() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle) - 1
	if n < 0 {
		return nil
	}
	c := p.idle[n]
	p.idle[n] = nil
	p.idle = p.idle[:n]
	return c
}

// put takes back a connection that can carry another exchange.
func (p *pool) put(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= p.maxIdle {
		c.Close()
		return
	}
	c.idleSince = time.Now()
	p.idle = append(p.idle, c)
	if p.timer == nil {
		p.timer = time.AfterFunc(idleTimeout, p.expire)
	}
}

// expire closes connections that have been idle for too long, and sets the timer for the rest.
func (p *pool) expire() {
	defer guard.Recover()
	p.mu.Lock()
	defer p.mu.Unlock()
	now, n := time.Now(), 0
	for n < len(p.idle) && now.Sub(p.idle[n].idleSince) >= idleTimeout {
		p.idle[n].Close()
		n++
	}
	rest := copy(p.idle, p.idle[n:])
	clear(p.idle[rest:])
	p.idle = p.idle[:rest]
	if rest == 0 || p.closed {
		p.timer = nil
		return
	}
	p.timer.Reset(p.idle[0].idleSince.Add(idleTimeout).Sub(now))
}

// drain runs f, which reads the rest of an answer on c, which the pool's close
// cuts off. It returns false, without running f, if the pool is closed already.
func (p *pool) drain(c *conn, f func()) bool {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return false
	}
	p.draining[c] = struct{}{}
	p.drains.Add(1)
	p.mu.Unlock()

	f()

	p.mu.Lock()
	delete(p.draining, c)
	p.mu.Unlock()
	p.drains.Done()
	return true
}

// close closes the idle connections, cuts off answers that are still being read, and waits
// for their readers. Connections made later are closed after one exchange.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	for _, c := range p.idle {
		c.Close()
	}
	p.idle = nil
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	for c := range p.draining {
		_ = c.SetDeadline(longAgo)
	}
	p.mu.Unlock()
	p.drains.Wait()
}

// longAgo as a deadline ends all I/O.
var longAgo = time.Unix(1, 0)
