package gateway

import "sync/atomic"

// Counter is a sum that only grows and that many connections add to all the time.
// Each adds to the cell that its token names, so that the shards, which have
// connections each of its own, do not take one cache line from each other's cores
// with every event.
type Counter struct {
	cells [64]struct {
		n atomic.Uint64
		_ [56]byte // a cache line for each
	}
}

func (n *Counter) add(cell uint8, more uint64) { n.cells[cell%64].n.Add(more) }

// Load is the sum.
func (n *Counter) Load() uint64 {
	var sum uint64
	for i := range n.cells {
		sum += n.cells[i].n.Load()
	}
	return sum
}
