package topics

import (
	"slices"

	"ssegateway/internal/broker"
	"ssegateway/internal/frame"
	"ssegateway/sse"
)

// Welcome gives a new member its first topics. It returns what the client has to be told
// first, the retry included, and the replay of what it missed, if there is any; ahead says
// that it has more than this node has read.
// From that moment on the shard delivers to the subscriber, whose lock is held, so that the
// replay comes first and nothing is lost or doubled between the two.
func (m *Member) Welcome(names []string, lastEventID string, retry sse.Retry) (opening []frame.Frame, missed *Replay, ahead bool) {
	s := m.shard
	// It has no log yet, so that nothing is delivered to it before it has all topics.
	names = broker.SortTopics(slices.Clone(names))
	s.inPieces(len(names), func(i int) { s.joinLocked(m, names[i]) })
	s.mu.Lock()
	defer s.mu.Unlock()
	extent := s.enterLocked(m)
	// The shard may be behind the log. What is stored and not yet delivered is still
	// to come; of what is not stored the client may have had some from another shard,
	// and it was published before the client came.
	position := m.after
	m.seq = extent.Records
	start := position // what the client has after this opening
	gap := false
	if lastEventID != "" {
		had, ok := broker.ParsePosition(lastEventID)
		switch {
		case !ok || had.Epoch != extent.Epoch || had.Offset > extent.Last && !s.topics.shared:
			// Nothing is known of what it has. It learns so, and goes on from now.
			gap = true
		case had.Offset < extent.Trimmed && had.Offset < position:
			// What is left of what it missed still comes.
			gap = true
			start = min(extent.Trimmed, position)
			missed = m.replayLocked(&Replay{log: m.log, topics: names, after: start, upto: position})
		case had.Offset < position:
			start = had.Offset
			missed = m.replayLocked(&Replay{log: m.log, topics: names, after: start, upto: position})
		default:
			// It may be ahead of this shard, by what it got from another, or of this node.
			start, m.after = had.Offset, had.Offset
			ahead = had.Offset > extent.Last
		}
	}
	id := idOf(m.log, start)
	if gap {
		// With the id, since some clients take none from a block without an event.
		opening = append(opening, Gap(lastEventID, id))
	}
	return append(opening, frame.Block(sse.AppendSettings(nil, retry, id))), missed, ahead
}

// enterLocked puts a member without topics behind what the shard has delivered. Where
// the shard has not yet come to the log that is there now, the member is put behind that
// one, and waits there: its client may have been told of the other's end already.
func (s *shard) enterLocked(m *Member) broker.Stats {
	log, position := s.topics.engine.Log(), s.position
	extent := log.Stats()
	if log != s.log {
		position = extent.Last
	}
	if m.log == nil || m.log.Epoch() != log.Epoch() {
		m.after = 0
	}
	m.log = log
	m.after = max(m.after, position)
	return extent
}

// GiveUp ends the wait of a member for this node to read what its client has, and returns
// the gap by which the client learns that it goes on from where the node is. There is none
// if the node has read so far.
func (m *Member) GiveUp() (gap frame.Frame, late bool) {
	s := m.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	had := broker.Position{Epoch: m.log.Epoch(), Offset: m.after}
	if len(m.topics) == 0 {
		m.log = s.log // as it has none it was not taken along
		defer m.letGoLocked()
	}
	reached := m.log.Stats().Last
	if reached >= had.Offset && m.log.Epoch() == had.Epoch {
		return gap, false
	}
	if m.log == s.log {
		reached = s.position
	}
	m.after = reached
	return Gap(had.String(), idOf(m.log, reached)), true
}

// IsAhead says whether an id is a position of the log that has not been delivered up to. A
// client that had it would miss what is published until then, and would not be told.
func (t *Topics) IsAhead(id string) bool {
	p, ok := broker.ParsePosition(id)
	return ok && slices.ContainsFunc(t.shards, func(s *shard) bool { return s.isAhead(p) })
}

func (s *shard) isAhead(p broker.Position) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.Epoch == s.log.Epoch() {
		return p.Offset > s.position
	}
	return p.Epoch == s.topics.engine.Log().Epoch() && p.Offset > 0 // to which the shard has yet to come
}

// idOf is a position in a log, as clients keep it.
func idOf(log *broker.Log, offset uint64) sse.ID {
	id, _ := sse.NewID(broker.Position{Epoch: log.Epoch(), Offset: offset}.String()) // an epoch is a valid id
	return id
}
