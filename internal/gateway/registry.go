package gateway

import "sync"

// registry finds a connection by its token. It is split into shards so that
// connects and sends on different cores do not wait for each other.
type registry struct {
	shards [64]struct {
		sync.RWMutex
		conns map[Token]*Conn
	}
}

// shardByte is a byte of the token that is random in full.
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
		s.conns = nil // a map never shrinks: let a storm's go
	}
}

// all is a snapshot of the connections, in no order.
func (r *registry) all() []*Conn {
	var all []*Conn
	for i := range r.shards {
		s := &r.shards[i]
		s.RLock()
		for _, c := range s.conns {
			all = append(all, c)
		}
		s.RUnlock()
	}
	return all
}
