package topics

import (
	"errors"

	"ssegateway/internal/broker"
	"ssegateway/sse"
)

// Member is a subscriber with its topics. Its methods are called under the subscriber's
// lock, by one goroutine at a time.
//
// Its fields are guarded by the shard's lock. Which topics it has changes under the
// subscriber's lock as well, so that either is enough to read that, but not the indexes.
type Member struct {
	subscriber Subscriber
	shard      *shard
	topics     []memberTopic
	log        *broker.Log // to which the rest applies: the shard's, or one to which that has yet to come; without topics, an empty one of its epoch
	after      uint64      // what is stored up to this offset the client has, or gets by a replay: no less
	seq        uint64      // what is not stored up to this one, in the order of all records, it has, or is never to get: no less
	replays    *Replay     // that are not over, the newest first
}

// NewMember makes a member of no topics yet. Members with the same key are of one shard.
func (t *Topics) NewMember(s Subscriber, key byte) *Member {
	return &Member{subscriber: s, shard: t.shards[int(key)%len(t.shards)]}
}

// wants says whether a record that has come up is one more for the member: one with
// several of its topics comes once. Of one with a single topic no note is taken: that
// would be a write to each member, whose cache line another shard's may share.
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

// ErrTooManyTopics is returned where the member would have more topics than it may.
var ErrTooManyTopics = errors.New("too many topics")

// Change adds topics and removes others; what is in both is removed. A topic that is added
// brings what is published from now on. For a member that had no topics it returns the id
// of the position from which on it gets what is published. What its replays have yet to
// return has none of the topics that are removed; what they have returned already see
// Replays for. After an error nothing has changed.
func (m *Member) Change(add, remove []string, most int) (entered sse.ID, err error) {
	join, leave := m.changes(add, remove)
	if len(m.topics)+len(join)-len(leave) > most {
		return entered, ErrTooManyTopics
	}
	// As long as it has a topic it goes along with the shard: so the first comes together
	// with its position, and topics are added before others are removed.
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

// letGoLocked keeps of the log, for a member without topics, no more than which it is:
// such a member is not taken along to the next one.
func (m *Member) letGoLocked() { m.log = broker.NewLog(m.log.Epoch(), 0, 0) }

// Replays are those that are not over.
func (m *Member) Replays() (replays []*Replay) {
	m.shard.mu.Lock()
	defer m.shard.mu.Unlock()
	for r := m.replays; r != nil; r = r.next {
		replays = append(replays, r)
	}
	return replays
}

// replayLocked takes note of a replay for the member.
func (m *Member) replayLocked(r *Replay) *Replay {
	r.member, r.next = m, m.replays
	m.replays = r
	return r
}

// forget takes note that a replay is over.
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

// changes are the names of add that the member lacks, and the indexes of those of remove
// that it has, the highest first. What is in both is to be removed.
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

// Leave gives up all topics.
func (m *Member) Leave() {
	s := m.shard
	s.inPieces(len(m.topics), func(int) { s.leaveLocked(m, len(m.topics)-1) })
	s.mu.Lock()
	defer s.mu.Unlock()
	m.topics, m.replays = nil, nil
	if len(s.index) == 0 {
		s.index = map[string]*topic{} // a map never shrinks: let a storm's go
	}
}

// Has says whether the member has a topic.
func (m *Member) Has(name string) bool {
	for i := range m.topics {
		if m.topics[i].topic.name == name {
			return true
		}
	}
	return false
}

// Names is what the member has, in no order.
func (m *Member) Names() []string {
	names := make([]string, len(m.topics))
	for i := range m.topics { // of a topic of it the name alone, whatever lock is held
		names[i] = m.topics[i].topic.name
	}
	return names
}

// Len is how many topics the member has.
func (m *Member) Len() int { return len(m.topics) }
