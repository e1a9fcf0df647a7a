//go:build linux && !portable

package stream

import (
	"container/list"
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ssegateway/internal/epoll"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
)

// unfinishedTime is how long the first request of a connection may take to come. Then the connection goes to net/http,
// whose timeouts apply.
const unfinishedTime = time.Second

// Front accepts connections. It handles the first request of each if that is a plain GET (see readGet), on the socket
// that its stream then has: there is no net.Conn, no buffer and no second goroutine. All others go to net/http with the
// bytes that were read: Front is the listener of those.
type Front struct {
	net.Listener

	// Fixed after construction.
	cfg    FrontConfig
	d      *detacher
	shared bool     // another process has opened the listener
	file   *os.File // the listener, to wait for; a net.Listener does not allow that
	raw    syscall.RawConn
	closed chan struct{}
	idle   chan *newcomer // workers wait there for a request; nil ends them

	once     sync.Once
	sweeping sync.WaitGroup

	mu    sync.Mutex
	late  []late // for Accept
	ended bool   // Close was called

	waiting list.List // of *newcomer whose request has not come, the oldest first; guarded by the detacher's lock

	buffer   [maxGet]byte // of the detacher's goroutine, which reads
	accepted [maxGet]byte // of the goroutine that accepts
}

// Front makes a Front of a listener, if that is a plain TCP listener. Its Accept must be called, and fails when the
// listener is closed.
func (o *Opener) Front(l net.Listener, cfg FrontConfig) net.Listener {
	tcp, ok := l.(*net.TCPListener)
	a, shared := l.(adopted)
	if shared {
		tcp, ok = a.TCPListener, true
	}
	if !ok {
		return l
	}
	file, raw, err := pollable(tcp)
	if err != nil {
		return l
	}
	f := &Front{
		Listener: tcp, cfg: cfg, d: o.detacher, shared: shared, file: file, raw: raw, closed: make(chan struct{}), idle: make(chan *newcomer),
	}
	f.sweeping.Go(func() {
		defer guard.Recover()
		f.sweep()
	})
	return f
}

// pollable returns a listener as a file in Go's netpoller, with the options that a Front's sockets inherit.
func pollable(l *net.TCPListener) (file *os.File, raw syscall.RawConn, err error) {
	control, err := l.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	copied := -1
	var failure error
	err = control.Control(func(fd uintptr) {
		// Sockets inherit it, which saves a system call for each.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		// The kernel gives out a connection when its first bytes are there, or after a second. So most requests are whole
		// when the socket is accepted.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 1)
		// ListenConfig turns off the probes, and nothing sets SO_LINGER; a listener that another process has opened may have both.
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
		_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{})
		copied, failure = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) // File would make both blocking
	})
	if err := errors.Join(err, failure); err != nil {
		return nil, nil, err
	}
	file = os.NewFile(uintptr(copied), "listener")
	raw, err = file.SyscallConn()
	if err == nil {
		err = file.SetReadDeadline(time.Time{}) // fails if the kernel refuses to watch it, which NewFile does not tell
	}
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return file, raw, nil
}

// Accept implements net.Listener. It returns the next connection that is net/http's, an [edge.Conn]. It also begins with
// all others that come, so it has to be called all the time. It fails, and may be called again, when the system lacks
// something for a socket, which is closed then.
func (f *Front) Accept() (nc net.Conn, err error) {
	for {
		if l := f.nextLate(); l != (late{}) {
			return l.conn, l.err
		}
		waiting := f.raw.Read(func(fd uintptr) (ready bool) {
			nc, ready, err = f.accept(int(fd))
			return ready
		})
		switch {
		case nc != nil || err != nil:
			return nc, err
		case waiting == nil: // acceptAtOnce of them
			runtime.Gosched() // the scheduler is not told of the system calls
		case errors.Is(waiting, os.ErrDeadlineExceeded):
		case errors.Is(waiting, os.ErrClosed):
			return nil, net.ErrClosed
		default:
			return nil, waiting
		}
	}
}

// acceptAtOnce is how many connections accept takes at most before Accept looks for a late one.
const acceptAtOnce = 64

// accept takes the connections that have come, up to the first one that is net/http's. ready is false if there are no
// more.
func (f *Front) accept(fd int) (nc net.Conn, ready bool, err error) {
	for range acceptAtOnce {
		s, peer, errno := epoll.Accept(fd, f.shared)
		switch errno {
		case 0:
			if c, err := f.begin(s, peer); c != nil || err != nil {
				return c, true, err
			}
		case unix.EAGAIN:
			return nil, false, nil
		case unix.EINTR, unix.ECONNABORTED:
		default:
			return nil, true, os.NewSyscallError("accept", errno)
		}
	}
	return nil, true, nil
}

// late is a connection that became net/http's after it was accepted, or why that failed.
type late struct {
	conn net.Conn
	err  error
}

func (l late) close() {
	if l.conn != nil {
		_ = l.conn.Close()
	}
}

// nextLate returns the next late connection; the zero late: there is none.
func (f *Front) nextLate() late {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.late) == 0 {
		return late{}
	}
	l := f.late[0]
	if f.late = f.late[1:]; len(f.late) == 0 {
		f.late = nil
		_ = f.file.SetReadDeadline(time.Time{})
	}
	return l
}

// addLate has Accept return a late connection.
func (f *Front) addLate(l late) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		l.close()
		return
	}
	if f.late = append(f.late, l); len(f.late) == 1 {
		_ = f.file.SetReadDeadline(time.Unix(1, 0))
	}
}

// Close implements net.Listener. It closes the sockets whose request has not come. Requests that are handled go on.
func (f *Front) Close() (err error) {
	f.once.Do(func() {
		_ = f.file.Close() // it waits for accept
		err = f.Listener.Close()
		close(f.closed)
		f.sweeping.Wait()
		for c := f.nextWaiting(time.Now()); c != nil; c = f.nextWaiting(time.Now()) {
			c.reading.Lock()
			c.abort()
			c.reading.Unlock()
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.ended = true
		for _, l := range f.late {
			l.close()
		}
		f.late = nil
	})
	return err
}

// Settle waits until all requests are answered that Fronts handle. When ctx ends before, the contexts of those requests
// end, as when their clients leave. The Fronts have to be closed.
func (o *Opener) Settle(ctx context.Context) {
	d := o.detacher
	d.mu.Lock()
	if len(d.newcomers) == 0 {
		d.mu.Unlock()
		return
	}
	if d.settled == nil {
		d.settled = make(chan struct{})
	}
	settled := d.settled
	d.mu.Unlock()
	select {
	case <-settled:
		return
	case <-ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.newcomers {
		if c.handled {
			c.endLocked(gateway.ClientClosed, 0)
		}
	}
}

// work handles requests, one after the other. A worker is kept for a moment: its stack has grown already.
func (f *Front) work(c *newcomer) {
	defer guard.Recover()
	for c != nil {
		c.serve()
		select {
		case c = <-f.idle:
		case <-f.closed:
			return
		}
	}
}

// sweep gives the connections to net/http whose request is late, and ends idle workers.
func (f *Front) sweep() {
	ticker := time.NewTicker(unfinishedTime / 2)
	defer ticker.Stop()
	for {
		select {
		case <-f.closed:
			return
		case <-ticker.C:
		}
		f.endIdle()
		f.passUnfinished()
	}
}

// endIdle ends the workers that have nothing to do.
func (f *Front) endIdle() {
	for {
		select {
		case f.idle <- nil:
		default:
			return
		}
	}
}

// passUnfinished gives the connections to net/http whose request is late.
func (f *Front) passUnfinished() {
	limit := time.Now().Add(-unfinishedTime)
	for c := f.nextWaiting(limit); c != nil; c = f.nextWaiting(limit) {
		c.reading.Lock()
		c.passLate(c.begun)
		c.reading.Unlock()
	}
}

// nextWaiting takes the one off the list that has waited for its request for longest. It returns nil if none was
// accepted before the limit.
func (f *Front) nextWaiting(limit time.Time) *newcomer {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	oldest := f.waiting.Front()
	if oldest == nil {
		return nil
	}
	c := oldest.Value.(*newcomer) //nolint:forcetypeassert // there is nothing else
	if !c.since.Before(limit) {
		return nil
	}
	c.leaveListLocked()
	return c
}
