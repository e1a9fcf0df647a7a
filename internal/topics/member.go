package topics

import (
	"errors"

	"ssegateway/internal/broker"
	"ssegateway/sse"
)

// Member is a subscriber with its topics. Its methods are called under the subscriber's lock, by
// one goroutine at a time.
//
// Its fields are guarded by the shard's lock. Its set of topics also changes only under the
// subscriber's lock, so either lock is enough to read the names of the topics. The indexes need the
// shard's lock.
type Member struct {
	subscriber Subscriber
	shard      *shard
	topics     []memberTopic
	log        *broker.Log // the log that after and seq refer to: the shard's, or one that the shard has yet to reach; without topics, an empty one with its epoch
	after      uint64      // the client has the stored records up to this offset, or gets them by a replay; never decreases
	seq        uint64      // the client has the records that are not stored up to this one in the order of all records, or never gets them; never decreases
	replays    *Replay     // that are not over, the newest first
}

// NewMember makes a member without topics. Members with the same key are in one shard.
func (t *Topics) NewMember(s Subscriber, key byte) *Member {
	return &Member{subscriber: s, shard: t.shards[int(key)%len(t.shards)]}
}

// wants reports whether the member has yet to get a record that one of its topics has. A record
// with several of its topics is delivered once. Nothing is written to the member for a record with
// a single topic: the write would touch each member, whose cache line another shard may share.
func (m *Member) wants(record *broker.Record) bool {
	n, had := record.Seq, &m.seq
	if record.Stored {
		n, had = record.Offset, &m.after
	}
	if n <= *had || record.Offset < m.after {
		return false
	}
	if len(record.Topics) > 1 {
		*had = n
	}
	return true
}

// ErrTooManyTopics is returned if the member would have more topics than it may.
var ErrTooManyTopics = errors.New("too many topics")

// Change adds topics and removes others; a topic that is in both lists is removed. An added topic
// brings what is published from now on. If the member had no topics, Change returns the id of the
// position after which it gets what is published. Its replays give no more records of the removed
// topics. For what they have given already see Replays. After an error nothing has changed.
func (m *Member) Change(add, remove []string, most int) (entered sse.ID, err error) {
	join, leave := m.changes(add, remove)
	if len(m.topics)+len(join)-len(leave) > most {
		return entered, ErrTooManyTopics
	}
	// A member is moved along with the shard as long as it has a topic. So its first topic is added
	// together with its position, and topics are added before others are removed.
	s := m.shard
	s.inPieces(len(join), func(i int) {
		if len(m.topics) == 0 {
			s.enterLocked(m)
			entered = idOf(m.log, m.after)
		}
		s.joinLocked(m, join[i])
	})
	s.inPieces(len(leave), func(i int) { s.leaveLocked(m, leave[i]) })
	if len(leave) > 0 && len(m.topics) == 0 {
		s.mu.Lock()
		m.letGoLocked()
		s.mu.Unlock()
	}
	if replays := m.Replays(); len(replays) > 0 && len(leave) > 0 {
		gone := make(map[string]bool, len(remove))
		for _, name := range remove {
			gone[name] = true
		}
		for _, r := range replays {
			r.remove(gone)
		}
	}
	return entered, nil
}

// letGoLocked keeps only the identity of the log for a member without topics, because such a member
// is not moved along to the next log.
func (m *Member) letGoLocked() { m.log = broker.NewLog(m.log.Epoch(), 0, 0) }

// Replays returns the member's replays that are not over.
func (m *Member) Replays() (replays []*Replay) {
	m.shard.mu.Lock()
	defer m.shard.mu.Unlock()
	for r := m.replays; r != nil; r = r.next {
		replays = append(replays, r)
	}
	return replays
}

// replayLocked adds a replay to the member.
func (m *Member) replayLocked(r *Replay) *Replay {
	r.member, r.next = m, m.replays
	m.replays = r
	return r
}

// forget removes a replay that is over.
func (m *Member) forget(r *Replay) {
	m.shard.mu.Lock()
	defer m.shard.mu.Unlock()
	for at := &m.replays; *at != nil; at = &(*at).next {
		if *at == r {
			*at = r.next
			return
		}
	}
}

// changes returns the names in add that the member lacks, and the indexes of the topics in remove
// that it has, the highest first. A name in both lists is removed.
func (m *Member) changes(add, remove []string) (join []string, leave []int) {
	wanted := make(map[string]bool, len(add)+len(remove))
	for _, name := range add {
		wanted[name] = true
	}
	for _, name := range remove {
		wanted[name] = false
	}
	for i := len(m.topics) - 1; i >= 0; i-- {
		name := m.topics[i].topic.name
		if want, named := wanted[name]; named && !want {
			leave = append(leave, i)
		}
		delete(wanted, name)
	}
	for _, name := range add {
		if wanted[name] {
			join = append(join, name)
			delete(wanted, name)
		}
	}
	return join, leave
}

// Leave removes all topics.
func (m *Member) Leave() {
	s := m.shard
	s.inPieces(len(m.topics), func(int) { s.leaveLocked(m, len(m.topics)-1) })
	s.mu.Lock()
	defer s.mu.Unlock()
	m.topics, m.replays = nil, nil
	if len(s.index) == 0 {
		s.index = map[string]*topic{} // a map never shrinks: release the one that a storm made large
	}
}

// Has reports whether the member has a topic.
func (m *Member) Has(name string) bool {
	for i := range m.topics {
		if m.topics[i].topic.name == name {
			return true
		}
	}
	return false
}

// Names returns the member's topics in no order.
func (m *Member) Names() []string {
	names := make([]string, len(m.topics))
	for i := range m.topics { // only the name, which either lock allows
		names[i] = m.topics[i].topic.name
	}
	return names
}

// Len returns how many topics the member has.
func (m *Member) Len() int { return len(m.topics) }
