package gateway

import (
	"hash/maphash"
	"sync"
)

// subjects finds the open connections of a subject. The connections of one subject are linked
// through their extras. Its locks are innermost.
type subjects struct {
	seed   maphash.Seed
	shards [64]struct {
		sync.Mutex
		first map[string]*Conn
	}
}

func newSubjects() *subjects { return &subjects{seed: maphash.MakeSeed()} }

func (s *subjects) shard(subject string) int {
	return int(maphash.String(s.seed, subject) % uint64(len(s.shards)))
}

// add adds a connection whose extras have their subject, which never changes.
func (s *subjects) add(c *Conn) {
	subject := c.extras.subject
	shard := &s.shards[s.shard(subject)]
	shard.Lock()
	defer shard.Unlock()
	if shard.first == nil {
		shard.first = make(map[string]*Conn)
	}
	next := shard.first[subject]
	if c.extras.next = next; next != nil {
		next.extras.previous = c
	}
	shard.first[subject] = c
}

func (s *subjects) remove(c *Conn) {
	x := c.extras
	shard := &s.shards[s.shard(x.subject)]
	shard.Lock()
	defer shard.Unlock()
	if x.next != nil {
		x.next.extras.previous = x.previous
	}
	switch {
	case x.previous != nil:
		x.previous.extras.next = x.next
	case x.next != nil:
		shard.first[x.subject] = x.next
	default:
		if delete(shard.first, x.subject); len(shard.first) == 0 {
			shard.first = nil // a map never shrinks: release the one that a storm made large
		}
	}
	x.next, x.previous = nil, nil
}

// of returns the connections of a subject, in no order.
func (s *subjects) of(subject string) (conns []*Conn) {
	shard := &s.shards[s.shard(subject)]
	shard.Lock()
	defer shard.Unlock()
	for c := shard.first[subject]; c != nil; c = c.extras.next {
		conns = append(conns, c)
	}
	return conns
}
