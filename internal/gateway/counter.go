package gateway

import "sync/atomic"

// Counter is a sum that only grows, and to which many connections add all the time. Each adds to
// the shard that its token names. So the shards of topics, which have different connections, do not
// take a cache line from each other's cores with every event.
type Counter struct {
	shards [64]struct {
		n atomic.Uint64
		_ [56]byte // a cache line for each
	}
}

func (n *Counter) add(shard uint8, more uint64) { n.shards[shard%64].n.Add(more) }

// Load returns the sum.
func (n *Counter) Load() uint64 {
	var sum uint64
	for i := range n.shards {
		sum += n.shards[i].n.Load()
	}
	return sum
}
