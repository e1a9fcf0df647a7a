package edge

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

// Kind says what a listener accepts.
type Kind uint8

// The kinds.
const (
	Plain   Kind = iota // HTTP by peers that are nobody's yet
	Caller              // connections of the internal API that come back
	overTLS             // see ListenTLS
)

// Listen makes the connections of a listener the edge's. The listener survives whatever a
// single connection, or a lack of memory or descriptors, makes accept fail with. refusal may be nil.
func (e *Edge) Listen(l net.Listener, k Kind, refusal Refusal) net.Listener {
	return &listener{Listener: l, edge: e, kind: k, refusal: refusal, closed: make(chan struct{})}
}

type listener struct {
	net.Listener
	edge    *Edge
	kind    Kind
	refusal Refusal
	once    sync.Once
	closed  chan struct{}
}

const (
	minPause = 5 * time.Millisecond
	maxPause = time.Second
)

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	pause := minPause
	for {
		before := l.edge.admittedSoFar()
		nc, err := l.Listener.Accept()
		if l.edge.admittedSoFar() != before { // a Front accepts many before it fails
			pause = minPause
		}
		switch {
		case err == nil:
			if c, ok := nc.(*Conn); ok { // admitted as a socket
				return c, nil
			}
			c := l.edge.newConn(nc, l.kind)
			c.refusal = l.refusal
			if l.edge.admit(c) {
				return c, nil
			}
			_ = nc.Close()
			continue
		case isFinal(err):
			return nil, err
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
			l.edge.makeRoom()
		}
		if pause >= maxPause {
			l.edge.cfg.Log.Error("accepting connections fails, and is tried again", slog.Any("error", err))
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, maxPause)
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// isFinal reports whether accept fails because the listener no longer works. accept(2) also
// fails for errors of a single connection, and while the system lacks memory or descriptors.
func isFinal(err error) bool {
	for _, final := range []error{net.ErrClosed, syscall.EBADF, syscall.EINVAL, syscall.ENOTSOCK, syscall.EOPNOTSUPP, syscall.EFAULT} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}
