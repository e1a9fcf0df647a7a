package gateway

import (
	"fmt"
	"unsafe"
)

// ConnBytes is the size of a Conn, ConnHotBytes that of the part that a send touches.
const (
	ConnBytes    = unsafe.Sizeof(Conn{})
	ConnHotBytes = unsafe.Offsetof(Conn{}.token)
)

// ShardOf returns the index of a connection's shard.
func ShardOf(c *Conn, shards int) int { return int(c.token[shardByte]) % shards }

func (b *backlog) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.lags)
}

// Leftovers returns what the gateway still holds, but should not when every connection has
// ended.
func (g *Gateway) Leftovers() []string {
	var left []string
	add := func(what string, n int64) {
		if n != 0 {
			left = append(left, fmt.Sprintf("%s: %d", what, n))
		}
	}
	add("connections counted", g.count.Load())
	add("tails counted", g.tails.Load())
	add("connections registered", int64(len(g.conns.all())))
	add("pending", g.stats.Pending.Load())
	add("open", g.stats.Open.Load())
	add("bytes queued", g.budget.Bytes())
	add("connections in the backlog", int64(g.backlog.len()))
	add("bytes of requests", g.cfg.Requests.Bytes())
	for i := range g.beats.slots {
		s := &g.beats.slots[i]
		s.mu.Lock()
		add("connections in a slot of the wheel", int64(len(s.conns)))
		s.mu.Unlock()
	}
	return left
}

// Turn does a whole turn of the wheel at once.
func (g *Gateway) Turn() {
	var beating []*Conn
	for i := range g.beats.slots {
		beating = g.beats.slots[i].beat(beating)
	}
}
