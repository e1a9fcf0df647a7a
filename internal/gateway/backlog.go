package gateway

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ssegateway/internal/outbox"
)

const (
	// StallDeadline is how long a client may take nothing while bytes wait for it.
	StallDeadline = 10 * time.Second
	stallSweep    = 500 * time.Millisecond
)

// lag is the part of a connection that exists only while its client does not keep up: what waits
// for the client, and the watch over its progress. It is guarded by the connection's lock.
type lag struct {
	outbox.Outbox
	conn      *Conn
	replaying bool          // the replayer has to continue the replay at the front
	moved     time.Duration // when the client was last seen to take something, by Gateway.now
	progress  uint64        // what the stream's Look returned last; 0 before the first

	took  atomic.Int64 // when the socket last took something, by Gateway.now; read without the lock
	index int          // in the backlog, -1 after it was removed; guarded by the backlog's lock
}

// backlog is the set of open connections whose clients do not keep up. It finds stalled clients,
// and the connections to cut when all outboxes together exceed their budget. The lag of a client
// that has caught up stays in it until the client has acknowledged everything, although its
// connection has let go of it.
type backlog struct {
	full chan struct{} // has a value when more waits than the budget allows

	mu   sync.Mutex // innermost
	lags []*lag
}

func newBacklog() *backlog { return &backlog{full: make(chan struct{}, 1)} }

func (b *backlog) add(l *lag) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l.index = len(b.lags)
	b.lags = append(b.lags, l)
}

// remove removes l, if it is still there.
func (b *backlog) remove(l *lag) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.index < 0 {
		return
	}
	last := len(b.lags) - 1
	b.lags[l.index] = b.lags[last]
	b.lags[l.index].index = l.index
	l.index = -1
	b.lags[last] = nil
	if b.lags = b.lags[:last]; last == 0 {
		b.lags = nil
	}
}

func (b *backlog) all() []*lag {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.lags)
}

// run cuts stalled connections until ctx ends.
func (b *backlog) run(ctx context.Context) {
	ticker := time.NewTicker(stallSweep)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, l := range b.all() {
			l.conn.checkStall(l)
		}
	}
}

// checkStall cuts the connection if its client has taken nothing for too long. l is or was the lag
// of the connection.
func (c *Conn) checkStall(l *lag) {
	c.mu.Lock()
	defer c.unlock()
	was := c.lag != l
	if was && c.lag != nil && c.lag.progress == 0 {
		c.lag.moved, c.lag.progress = l.moved, l.progress // continue the watch
	}
	if was && (c.lag != nil || c.stream == nil) {
		c.gw.backlog.remove(l)
		return
	}
	if c.stream == nil {
		return
	}
	now := c.gw.now()
	progress, owing := c.stream.Look(l.progress)
	if progress != l.progress || l.replaying { // a client does not have to wait for the replayer
		l.moved = now
	}
	l.progress = progress
	switch {
	case was && !owing:
		c.gw.backlog.remove(l)
	case now-l.moved >= StallDeadline:
		c.closeLocked(Error, Stalled)
	}
}
