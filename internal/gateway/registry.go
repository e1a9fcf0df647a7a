package gateway

import (
	"bytes"
	"sync"
)

// registry finds a connection by its token. It is split into shards so that
// connects and sends on different cores do not wait for each other.
type registry struct {
	shards [64]struct {
		sync.RWMutex
		conns map[Token]*Conn
	}
}

// shardByte is a byte of the token that is always random.
const shardByte = 15

func (r *registry) find(t Token) *Conn {
	s := &r.shards[t[shardByte]%64]
	s.RLock()
	defer s.RUnlock()
	return s.conns[t]
}

func (r *registry) add(c *Conn) {
	s := &r.shards[c.token[shardByte]%64]
	s.Lock()
	defer s.Unlock()
	if s.conns == nil {
		s.conns = make(map[Token]*Conn)
	}
	s.conns[c.token] = c
}

func (r *registry) remove(t Token) {
	s := &r.shards[t[shardByte]%64]
	s.Lock()
	defer s.Unlock()
	delete(s.conns, t)
	if len(s.conns) == 0 {
		s.conns = nil // a map never shrinks: release the one that a storm made large
	}
}

// all returns a snapshot of the connections, in no order.
func (r *registry) all() []*Conn {
	var all []*Conn
	for i := range r.shards {
		all = r.within(all, i, &window{upto: lastToken})
	}
	return all
}

// lastToken is after all tokens: no token is all ones or all zeros.
var lastToken = Token(bytes.Repeat([]byte{255}, len(Token{})))

// within appends a shard's connections whose tokens are in a window, in no order.
func (r *registry) within(conns []*Conn, shard int, w *window) []*Conn {
	s := &r.shards[shard]
	s.RLock()
	defer s.RUnlock()
	for t, c := range s.conns {
		if w.has(t) {
			conns = append(conns, c)
		}
	}
	return conns
}

func (t Token) compare(u Token) int { return bytes.Compare(t[:], u[:]) }
