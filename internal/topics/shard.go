package topics

import (
	"context"
	"strings"
	"sync"

	"ssegateway/internal/broker"
	"ssegateway/sse"
)

// shard is a part of the members. Its lock is taken under subscribers' locks, never the
// other way round.
type shard struct {
	topics *Topics
	tailer *broker.Tailer // of log

	mu       sync.Mutex
	log      *broker.Log
	position uint64 // of the last stored record that was delivered
	index    map[string]*topic
}

// topic has the members of a shard that get it.
type topic struct {
	name    string
	members []topicMember
}

// topicMember is a member of a topic; index is the place of the topic in the member's topics.
type topicMember struct {
	member *Member
	index  int32
}

// memberTopic is a topic of a member; index is the place of the member in the topic's members.
type memberTopic struct {
	topic *topic
	index int32
}

func (s *shard) run(ctx context.Context) {
	var chosen []Subscriber // reused: a delivery allocates nothing
	for {
		record := s.tailer.Next(ctx)
		if record == nil {
			next := s.tailer.Replacement()
			if next == nil || ctx.Err() != nil {
				return
			}
			s.switchTo(next)
			continue
		}
		chosen = s.choose(record, chosen[:0])
		receivers := 0
		for _, c := range chosen {
			if c.Deliver(&record.Frame) {
				receivers++
			}
		}
		clear(chosen)
		s.topics.delivered(record, receivers)
	}
}

// choose appends the subscribers that a record goes to. A subscriber that joins later gets it by a
// replay, since the shard's position is moved under the same lock.
func (s *shard) choose(record *broker.Record, chosen []Subscriber) []Subscriber {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.position = record.Offset
	for _, name := range record.Topics {
		t := s.index[name]
		if t == nil {
			continue
		}
		for _, of := range t.members {
			if of.member.log == s.log && of.member.wants(record) {
				chosen = append(chosen, of.member.subscriber)
			}
		}
	}
	return chosen
}

// switchTo continues with the log that replaces the shard's. Each member continues after its
// position: the same one if the new log has the same epoch, and else the beginning. If the new log
// does not reach back that far, the member gets a gap first, and what its topics retain. What the member
// has yet to get from the old log comes before that.
func (s *shard) switchTo(next *broker.Replacement) {
	replays := map[*Member]*Replay{}
	s.mu.Lock()
	before, position := s.log, s.position
	s.log, s.tailer, s.position = next.Log, next.Tailer, next.Position
	for _, t := range s.index {
		for _, of := range t.members {
			if m := of.member; replays[m] == nil && (m.log == before || m.log == s.log) {
				replays[m] = s.followLocked(m, before, position)
			}
		}
	}
	s.mu.Unlock()
	for m, r := range replays {
		m.subscriber.Replay(r)
	}
}

// followLocked moves a member to the shard's log, which has just replaced the one before, and
// returns what it gets from it up to the shard's position.
func (s *shard) followLocked(m *Member, before *broker.Log, position uint64) *Replay {
	r := m.replayLocked(&Replay{log: s.log, topics: m.Names(), after: m.after, upto: s.position})
	if m.log == before { // otherwise it was moved to the new log already
		r.after = max(m.after, position)
		extent := s.log.Stats()
		if extent.Epoch != before.Epoch() || r.after < extent.Trimmed {
			had := broker.Position{Epoch: before.Epoch(), Offset: r.after}
			r.after = min(extent.Trimmed, s.position)
			id := idOf(s.log, r.after)
			if r.state = newState(s.log, r.topics, r.after, 0); r.state != nil {
				id = sse.ID{}
			}
			r.gap = s.topics.gap(had.String(), id)
		}
	}
	m.log, m.after = s.log, max(r.after, s.position)
	return r
}

// joinLocked adds a topic that the member does not have.
func (s *shard) joinLocked(m *Member, name string) {
	t := s.index[name]
	if t == nil {
		t = &topic{name: strings.Clone(name)}
		s.index[t.name] = t
	}
	m.topics = append(m.topics, memberTopic{t, int32(len(t.members))})      //nolint:gosec // fewer than 2^31
	t.members = append(t.members, topicMember{m, int32(len(m.topics) - 1)}) //nolint:gosec // fewer than 2^31
}

// leaveLocked removes the topic at an index of the member's topics.
func (s *shard) leaveLocked(m *Member, index int) {
	gone := m.topics[index]
	t := gone.topic
	// The topic's last member moves to the free index, and so does the member's last topic.
	last := len(t.members) - 1
	t.members[gone.index] = t.members[last]
	t.members[gone.index].member.topics[t.members[gone.index].index].index = gone.index
	t.members[last] = topicMember{}
	if t.members = t.members[:last]; last == 0 {
		delete(s.index, t.name)
	}
	end := len(m.topics) - 1
	if index != end {
		m.topics[index] = m.topics[end]
		moved := m.topics[index]
		moved.topic.members[moved.index].index = int32(index) //nolint:gosec // fewer than 2^31
	}
	m.topics[end] = memberTopic{}
	m.topics = m.topics[:end]
}

func (s *shard) count(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.index[name]; t != nil {
		return len(t.members)
	}
	return 0
}

// subscribers appends at most piece subscribers of a topic, from those below an index, and returns
// the index at which they begin. It counts down: when a member leaves, the one that takes its place
// comes from a higher index, which was visited already.
func (s *shard) subscribers(some []Subscriber, name string, end int) (appended []Subscriber, start int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.index[name]
	if t == nil {
		return some, 0
	}
	end = min(end, len(t.members))
	start = max(0, end-piece)
	for _, of := range t.members[start:end] {
		some = append(some, of.member.subscriber)
	}
	return some, start
}

// piece is how many topics are joined or left before the lock is released, because deliveries to
// others wait for the lock.
const piece = 256

// inPieces calls f with each number below n, under the lock.
func (s *shard) inPieces(n int, f func(i int)) {
	for i := 0; i < n; {
		s.mu.Lock()
		for end := min(i+piece, n); i < end; i++ {
			f(i)
		}
		s.mu.Unlock()
	}
}
