package stream

import (
	"context"
	"net"
	"sync"
	"time"

	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
)

// Transport is an accepted connection as it is beneath TLS and HTTP/2. It tells what
// net/http keeps for itself.
type Transport interface {
	// NetConn is the connection as the system made it.
	NetConn() net.Conn
	// Err is the first error that a read or a write met; nil if none did. One that says
	// why counts before the end of the file and a broken pipe.
	Err() error
	// Writing says whether a write is under way.
	Writing() bool
	// Done is closed when the connection is.
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

// lookInterval is how often a link is looked at.
const lookInterval = 500 * time.Millisecond

// link is what the streams of one HTTP/2 connection have in common.
type link struct {
	Transport
	tcp *net.TCPConn // nil if it is none

	mu       sync.Mutex
	watched  bool // watch is under way
	progress uint64
	owing    bool
	stalled  bool // watch has ended it
}

// look is a Stream's Look. Where bytes are owing, the link is watched from now on.
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

// watch looks at the link until nothing is owing, or it is closed. A peer that has
// acknowledged nothing for too long is gone, or as good as gone, with all its streams:
// see look for why this cannot be left to the kernel.
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

// fault is why the link failed; a zero Reason if it did not.
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
