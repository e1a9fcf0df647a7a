package gateway

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// StallDeadline is how long a client may take not one byte while bytes wait for it.
	StallDeadline = 10 * time.Second
	stallSweep    = 500 * time.Millisecond
)

// backlog is the set of open connections that have a queue: those whose clients
// do not keep up. It finds the stalled ones and keeps all queues together within
// their budget. Its lock is the innermost.
type backlog struct {
	budget int64
	bytes  atomic.Int64 // over all queues, those of pending connections included

	mu    sync.Mutex
	conns []*Conn
	of    []*queue // conns[i]'s queue, whose size may be read without the connection's lock
}

func (b *backlog) add(c *Conn, q *queue) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q.place = len(b.conns)
	b.conns = append(b.conns, c)
	b.of = append(b.of, q)
}

func (b *backlog) remove(q *queue) {
	b.mu.Lock()
	defer b.mu.Unlock()
	last := len(b.conns) - 1
	b.conns[q.place], b.of[q.place] = b.conns[last], b.of[last]
	b.of[q.place].place = q.place
	b.conns[last], b.of[last] = nil, nil
	b.conns, b.of = b.conns[:last], b.of[:last]
	if last == 0 {
		b.conns, b.of = nil, nil
	}
}

func (b *backlog) all() []*Conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*Conn(nil), b.conns...)
}

func (b *backlog) fullest() *Conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	var fullest *Conn
	var most int64 = -1
	for i, q := range b.of {
		if n := q.size.Load(); n > most {
			fullest, most = b.conns[i], n
		}
	}
	return fullest
}

// relieve cuts the connections with the fullest queues until all queues together
// fit into the budget. No connection's lock may be held.
func (b *backlog) relieve() {
	for b.bytes.Load() > b.budget {
		c := b.fullest()
		if c == nil {
			return // all of it belongs to pending connections, which are refused more by themselves
		}
		c.Leave(Error, SlowConsumer)
	}
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
		for _, c := range b.all() {
			c.checkStall()
		}
	}
}
