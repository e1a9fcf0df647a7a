package gateway

import (
	"cmp"
	"container/heap"
	"context"
	"time"
)

// When more waits than the budget of all outboxes allows, a goroutine of its own cuts connections.
// Deliveries continue and do not wait for it. So more than the budget may wait: what is delivered
// while one pass over the slow clients runs, and never more than each client's own bound. One pass
// frees a sixteenth of the budget, so that it need not run again for each event.

// overfull signals that more waits than the budget allows.
func (b *backlog) overfull() {
	select {
	case b.full <- struct{}{}:
	default:
	}
}

// relieve cuts connections whenever more waits than the budget allows, until ctx ends.
func (g *Gateway) relieve(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.backlog.full:
		}
		if !g.budget.Exceeded() {
			continue
		}
		for all := g.backlog.burdens(g.now()); all.Len() > 0 && !g.budget.Relieved(); {
			l, _ := heap.Pop(all).(*lag)
			l.conn.shed(l)
		}
		// If that was not enough, the rest belongs to pending connections, which accept nothing
		// more by themselves.
	}
}

// burden is a lag that may be cut to relieve the budget.
type burden struct {
	*lag
	weight int64 // its bytes, times the milliseconds since its client took something
}

// burdens are all lags, as a heap with the heaviest on top: a client that takes nothing comes
// before one that reads as fast as it can, however much waits for either. Few of many are cut, so a
// heap is cheaper than sorting.
type burdens []burden

func (b *backlog) burdens(now time.Duration) *burdens {
	lags := b.all()
	all := make(burdens, len(lags))
	for i, l := range lags {
		idle := max(0, now-time.Duration(l.took.Load()))
		all[i] = burden{l, l.Size() * (1 + idle.Milliseconds())}
	}
	heap.Init(&all)
	return &all
}

func (b *burdens) Len() int      { return len(*b) }
func (b *burdens) Swap(i, j int) { (*b)[i], (*b)[j] = (*b)[j], (*b)[i] }

func (b *burdens) Less(i, j int) bool {
	x, y := (*b)[i], (*b)[j]
	return cmp.Or(cmp.Compare(y.weight, x.weight), x.conn.token.compare(y.conn.token)) < 0
}

// Push completes heap.Interface: nothing is pushed.
func (b *burdens) Push(any) {}

// Pop removes the last one, where heap.Pop has put the heaviest.
func (b *burdens) Pop() any {
	last := len(*b) - 1
	x := (*b)[last]
	*b = (*b)[:last]
	return x.lag
}

// shed cuts the connection, unless its client has taken all of l meanwhile, or has left.
func (c *Conn) shed(l *lag) {
	c.mu.Lock()
	defer c.unlock()
	if c.lag == l {
		c.closeLocked(Error, SlowConsumer)
	}
}
