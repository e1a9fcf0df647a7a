//go:build linux && !portable

package fastsend

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"ssegateway/internal/epoll"
	"ssegateway/internal/guard"
)

const (
	// idleTimeout is how long a connection may wait for a next request. It is longer
	// than the idle time of common HTTP client pools, as net/http's is here.
	idleTimeout = 2 * time.Minute
	// unfinishedTimeout is how long a request may take to arrive before its connection
	// goes to net/http, whose timeouts then apply.
	unfinishedTimeout = time.Second
	// sweepInterval is how often both timeouts are checked.
	sweepInterval = time.Second
)

// Server serves the connections that it was given, with one goroutine per core.
type Server struct {
	loops []*loop
	next  atomic.Uint32
	conns atomic.Int64
}

// New makes a Server, with a handler for each of its goroutines. Run makes it serve.
func New(handler func() Handler) (*Server, error) {
	s := &Server{}
	for range runtime.GOMAXPROCS(0) {
		l, err := newLoop(handler(), &s.conns)
		if err != nil {
			return nil, err
		}
		s.loops = append(s.loops, l)
	}
	return s, nil
}

// Conns returns the number of connections.
func (s *Server) Conns() int { return int(s.conns.Load()) }

// CloseIdlest has one of the goroutines close, soon, the connection that has been idle for
// longest among its own. It returns false if there is none to close.
func (s *Server) CloseIdlest() bool {
	for range s.loops {
		l := s.loops[int(s.next.Add(1))%len(s.loops)]
		if l.closeIdlest() {
			return true
		}
	}
	return false
}

const supported = true

// adopt takes over a connection if it is a plain socket, and reports whether it did.
func (s *Server) adopt(nc net.Conn, exit *Exit, host string) bool {
	fd, ok := epoll.Take(nc)
	if ok {
		s.conns.Add(1)
		s.loops[int(s.next.Add(1))%len(s.loops)].add(&conn{fd: fd, exit: exit, host: host})
	}
	return ok
}

// Run serves until ctx ends; then it closes the connections.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	failed := make(chan error, len(s.loops))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, l := range s.loops {
		wg.Go(func() {
			if err := guard.Run(func() error { return l.run(ctx) }); err != nil {
				failed <- err
				cancel()
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// loop serves a part of the connections.
type loop struct {
	handler Handler
	set     *epoll.Set
	count   *atomic.Int64

	// Owned by the loop's goroutine:
	clock clock
	read  [maxRequest]byte // read buffer of all connections; one has its own bytes only while a request is unfinished
	out   []byte

	mu      sync.Mutex
	conns   []*conn // by descriptor
	open    int     // number of conns
	surplus int     // how many of them are to be closed
	closed  bool
}

// conn is a sender's connection. The loop's goroutine owns it.
type conn struct {
	fd    int
	exit  *Exit
	host  string    // that its requests have to name
	begun []byte    // bytes of an unfinished request
	since time.Time // when the last request was answered, or the unfinished one began; set by the sweep that first sees it
}

func newLoop(h Handler, count *atomic.Int64) (*loop, error) {
	set, err := epoll.New(128)
	return &loop{handler: h, set: set, count: count}, err
}

// add watches a connection. It was counted before, and is until its descriptor is closed.
func (l *loop) add(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || unix.EpollCtl(l.set.FD, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(c.fd)}) != nil { //nolint:gosec // a descriptor
		l.discard(c)
		return
	}
	for c.fd >= len(l.conns) {
		l.conns = append(l.conns, nil)
	}
	l.conns[c.fd] = c
	l.open++
}

// closeIdlest triggers a sweep that closes a connection. It returns false if there is none
// to close.
func (l *loop) closeIdlest() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.surplus >= l.open {
		return false
	}
	l.surplus++
	l.set.SetDeadline(time.Unix(1, 0))
	return true
}

// unwatch stops watching a connection, which the caller owns then. It stays counted.
func (l *loop) unwatch(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = unix.EpollCtl(l.set.FD, unix.EPOLL_CTL_DEL, c.fd, nil) // cannot fail: the set has it
	l.conns[c.fd] = nil
	l.open--
}

func (l *loop) close(c *conn) {
	l.unwatch(c)
	l.discard(c)
}

// discard closes a connection that is not watched.
func (l *loop) discard(c *conn) {
	l.count.Add(-1)
	epoll.Close(c.fd)
}

func (l *loop) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { l.set.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	defer l.end()
	var conns []*conn
	for ctx.Err() == nil {
		l.set.SetDeadline(time.Now().Add(sweepInterval))
		for ctx.Err() == nil {
			events, err := l.set.Wait()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return err
			}
			conns = l.owners(events, conns[:0])
			for _, c := range conns {
				l.serve(c)
			}
			clear(conns)
		}
		l.sweep(time.Now())
	}
	return nil
}

// owners appends the connections of events. A connection is removed only while its own
// event is served, so none is gone before its turn.
func (l *loop) owners(events []unix.EpollEvent, conns []*conn) []*conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range events {
		conns = append(conns, l.conns[e.Fd])
	}
	return conns
}

// serve reads once, and carries out the requests that have come. epoll reports unread bytes
// again, so that no sender keeps the others waiting.
func (l *loop) serve(c *conn) {
	begun := copy(l.read[:], c.begun)
	n, errno := epoll.Receive(c.fd, l.read[begun:])
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return
	case errno == 0 && n == 0 && begun > 0:
		l.giveBack(c, c.begun, nil) // net/http answers half a request
		return
	case errno != 0 || n == 0:
		l.close(c)
		return
	}
	l.out = l.out[:0]
	b := l.read[:begun+n]
	for {
		if b = afterLineEnds(b); len(b) == 0 {
			break
		}
		r, v := parse(b)
		if v == unfinished {
			break
		}
		var status int
		var answer []byte
		var later func() (int, []byte)
		if v == complete && string(r.host) == c.host {
			status, answer, later = l.handler.Serve(Request{r.body, r.authorization, r.traceparent, r.tracestate})
		}
		switch {
		case status != 0:
			l.out = appendAnswer(l.out, status, l.clock.now(), answer)
			b = b[r.length:]
			c.since = time.Time{}
		case later != nil && len(l.out) == 0 && len(b) == r.length:
			l.wait(c, later)
			return
		default:
			l.giveBack(c, b, l.out)
			return
		}
	}
	c.begun = append([]byte(nil), b...)
	if sent := send(c.fd, l.out); sent < 0 {
		l.close(c)
	} else if sent < len(l.out) { // the sender does not read its answers
		l.giveBack(c, b, l.out[sent:])
	}
}

// wait carries out, on a goroutine of its own, a send that has to wait. The connection is
// not watched meanwhile.
func (l *loop) wait(c *conn, later func() (int, []byte)) {
	l.unwatch(c)
	c.begun = nil
	go func() {
		defer guard.Recover()
		status, body := later()
		var clock clock
		answer := appendAnswer(nil, status, clock.now(), body)
		if send(c.fd, answer) < len(answer) { // earlier answers were read, so there is room unless the sender has left
			l.discard(c)
			return
		}
		l.add(c)
	}()
}

// giveBack hands a connection to net/http, with the bytes that were read of it, after
// writing the answers that are left.
func (l *loop) giveBack(c *conn, unread, answers []byte) {
	l.unwatch(c)
	f := os.NewFile(uintptr(c.fd), "sender")
	nc, err := net.FileConn(f) // has a descriptor of its own
	_ = f.Close()
	if err != nil {
		l.count.Add(-1)
		return
	}
	back := &returned{nc, bytes.Clone(unread)}
	answers = bytes.Clone(answers)
	go func() {
		defer guard.Recover()
		_ = nc.SetWriteDeadline(time.Now().Add(idleTimeout))
		_, err := nc.Write(answers)
		l.count.Add(-1) // from now on the edge counts it
		if err != nil {
			_ = nc.Close()
			return
		}
		_ = nc.SetWriteDeadline(time.Time{})
		c.exit.give(back)
	}()
}

// sweep closes connections that were idle for too long, and gives back those whose request
// was unfinished for too long.
func (l *loop) sweep(now time.Time) {
	l.mu.Lock()
	conns := make([]*conn, 0, len(l.conns))
	for _, c := range l.conns {
		if c != nil {
			conns = append(conns, c)
		}
	}
	surplus := l.surplus
	l.surplus = 0
	l.mu.Unlock()
	if surplus > 0 {
		conns = l.closeIdle(conns, surplus)
	}
	for _, c := range conns {
		switch age := now.Sub(c.since); {
		case c.since.IsZero():
			c.since = now
		case len(c.begun) > 0 && age >= unfinishedTimeout:
			l.giveBack(c, c.begun, nil)
		case len(c.begun) == 0 && age >= idleTimeout:
			l.close(c)
		}
	}
}

// closeIdle closes at most `most` connections, those that have been idle for longest, and
// returns the others. One that had a request since the last sweep is not idle.
func (l *loop) closeIdle(conns []*conn, most int) []*conn {
	isIdle := func(c *conn) bool { return len(c.begun) == 0 && !c.since.IsZero() }
	idle := slices.DeleteFunc(slices.Clone(conns), func(c *conn) bool { return !isIdle(c) })
	slices.SortFunc(idle, func(a, b *conn) int { return a.since.Compare(b.since) })
	idle = idle[:min(most, len(idle))]
	for _, c := range idle {
		l.close(c)
	}
	return slices.DeleteFunc(conns, func(c *conn) bool { return slices.Contains(idle, c) })
}

func (l *loop) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, c := range l.conns {
		if c != nil {
			l.discard(c)
		}
	}
	l.conns = nil
	_ = l.set.Close()
}

// send returns how many bytes were sent, or -1 if the connection is broken.
func send(fd int, p []byte) int {
	if len(p) == 0 {
		return 0
	}
	switch n, errno := epoll.Send(fd, p); errno {
	case 0:
		return n
	case unix.EAGAIN, unix.EINTR:
		return 0
	default:
		return -1
	}
}
