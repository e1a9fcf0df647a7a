package gateway

import (
	"cmp"
	"context"
	"slices"
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
// do not keep up. It finds the stalled ones, and those to be cut to keep all queues
// together within their budget. A queue that the client made shrink to nothing stays,
// without its connection knowing of it, until the client has acknowledged everything.
type backlog struct {
	relieving atomic.Bool // connections are being cut to get below the budget

	mu    sync.Mutex // innermost
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

// remove takes q out, if it is there still.
func (b *backlog) remove(q *queue) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if q.place < 0 {
		return
	}
	last := len(b.conns) - 1
	b.conns[q.place], b.of[q.place] = b.conns[last], b.of[last]
	b.of[q.place].place = q.place
	q.place = -1
	b.conns[last], b.of[last] = nil, nil
	b.conns, b.of = b.conns[:last], b.of[:last]
	if last == 0 {
		b.conns, b.of = nil, nil
	}
}

func (b *backlog) all() ([]*Conn, []*queue) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.conns), slices.Clone(b.of)
}

// burden is a queue as one that may be cut for the budget's sake.
type burden struct {
	conn   *Conn
	queue  *queue
	weight int64 // its bytes, times the milliseconds since its client took something
}

// burdens are all queues, the heaviest first: a client that takes nothing comes before
// one that reads as fast as it can, however much waits for either.
func (b *backlog) burdens(now time.Duration) []burden {
	b.mu.Lock()
	all := make([]burden, len(b.of))
	for i, q := range b.of {
		idle := max(0, now-time.Duration(q.took.Load()))
		all[i] = burden{b.conns[i], q, q.size.Load() * (1 + idle.Milliseconds())}
	}
	b.mu.Unlock()
	slices.SortFunc(all, func(x, y burden) int {
		return cmp.Or(cmp.Compare(y.weight, x.weight), x.conn.token.compare(y.conn.token))
	})
	return all
}

// relieve cuts connections until all queues together fit into the budget, and a little
// further, so that it has not to be done again for each event. Who comes while that is
// under way leaves it to the first. No connection's lock may be held.
func (b *backlog) relieve(budget *budget, now time.Duration) {
	for budget.exceeded() && b.relieving.CompareAndSwap(false, true) {
		cut := false
		for _, x := range b.burdens(now) {
			if budget.relieved() {
				break
			}
			cut = x.conn.shed(x.queue) || cut
		}
		b.relieving.Store(false)
		if !cut {
			return // the rest belongs to pending connections, which are refused more by themselves
		}
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
		conns, queues := b.all()
		for i, c := range conns {
			c.checkStall(queues[i])
		}
	}
}
