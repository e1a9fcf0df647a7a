package stream

import (
	"context"
	"net"
	"sync"
	"time"

	"ssegateway/internal/edge"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
)

// Transport is an accepted connection below TLS and HTTP/2. It reports what net/http does
// not expose.
type Transport interface {
	// NetConn returns the connection that the listener accepted.
	NetConn() net.Conn
	// Err returns the first error of a read or a write, or nil. An error that says why the
	// connection failed is preferred to io.EOF and EPIPE. If only these are known, Err waits for a
	// write that is under way, since the system tells the reason only once.
	Err() error
	// Writing reports whether a write is under way.
	Writing() bool
	// Done returns a channel that is closed with the connection.
	Done() <-chan struct{}
}

type transportKey struct{}

// WithTransport is for the ConnContext of a server that has streams: they find the
// connection's Transport there, if nc is one, or TLS on one.
func WithTransport(ctx context.Context, nc net.Conn) context.Context {
	for {
		if t, ok := nc.(Transport); ok {
			return context.WithValue(ctx, transportKey{}, &link{Transport: t, tcp: tcpOf(nc)})
		}
		inner, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return ctx
		}
		nc = inner.NetConn()
	}
}

// lookInterval is the interval at which watch checks a link.
const lookInterval = 500 * time.Millisecond

// link is the HTTP/2 connection that several streams share.
type link struct {
	Transport
	tcp edge.TCP // nil if the transport is not TCP

	mu       sync.Mutex
	watched  bool // watch is under way
	progress uint64
	owing    bool
	stalled  bool // watch has closed it
}

// look implements Look of the link's streams. If bytes are owing, watch is started.
func (l *link) look() (progress uint64, owing bool) {
	if l.tcp == nil {
		return 0, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.watched {
		l.progress, l.owing, _ = lookTCP(l.tcp, 0)
		if l.owing {
			l.watched = true
			go l.watch()
		}
	}
	return l.progress, l.owing
}

// watch checks the link until nothing is owing or it is closed. A peer that has
// acknowledged nothing for too long counts as gone, with all its streams. The function
// look says why this cannot be left to the kernel.
func (l *link) watch() {
	defer guard.Recover()
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	moved := time.Now()
	for {
		select {
		case <-ticker.C:
		case <-l.Done():
			return
		}
		switch moves, owing := l.lookAgain(); {
		case !owing:
			return
		case moves:
			moved = time.Now()
		case time.Since(moved) >= gateway.StallDeadline:
			l.mu.Lock()
			l.stalled = true
			l.mu.Unlock()
			_ = l.tcp.SetLinger(0)
			_ = l.tcp.Close()
			return
		}
	}
}

func (l *link) lookAgain() (moves, owing bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	progress, owing, _ := lookTCP(l.tcp, l.progress)
	moves = progress != l.progress
	l.progress, l.owing, l.watched = progress, owing, owing
	return moves, owing
}

// fault returns why the link failed, or a zero Reason if it did not.
func (l *link) fault() (gateway.Reason, gateway.Detail) {
	l.mu.Lock()
	stalled := l.stalled
	l.mu.Unlock()
	if stalled {
		return gateway.Error, gateway.Stalled
	}
	if err := l.Err(); err != nil {
		return readFault(err)
	}
	return 0, 0
}
