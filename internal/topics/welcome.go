package topics

import (
	"cmp"
	"slices"

	"ssegateway/internal/broker"
	"ssegateway/internal/frame"
	"ssegateway/sse"
)

// Beginning says where in the log a new member begins.
type Beginning struct {
	// LastEventID is the id that the client brought; "" if it brought none.
	LastEventID string
	// Position is from where the backend wants a client to get everything that brought no id; "" if the backend
	// did not say.
	Position string
	// Asked is where the log was when the backend was asked, for all others; zero: where the log is now.
	Asked broker.Position
	// Rewind is how many of the newest stored events of each topic a client gets that has no position.
	Rewind int
}

// Welcome gives a new member its first topics. It returns what the client has to get first,
// including the retry, and the replay of what it has to get then, if there is any. ahead reports that the
// client has more than this node has read.
// From then on the shard delivers to the subscriber, whose lock is held: so the replay comes first,
// and no event is lost or comes twice between the two.
func (m *Member) Welcome(names []string, begin Beginning, retry sse.Retry) (opening []frame.Frame, then *Replay, ahead bool) {
	s := m.shard
	// It has no log yet, so nothing is delivered to it before it has all topics.
	names = broker.SortTopics(slices.Clone(names))
	s.inPieces(len(names), func(i int) { s.joinLocked(m, names[i]) })
	s.mu.Lock()
	defer s.mu.Unlock()
	extent := s.enterLocked(m)
	// The shard may be behind the log. The records in between that are stored are still to come.
	// Those that are not stored are never delivered to this member: the client may have had some of
	// them from another shard, and they were published before it came.
	position := m.after
	m.seq = extent.Records
	if begin.LastEventID != "" {
		s.topics.stats.Resumes.Add(1)
	}
	start, gap := broker.Position{Epoch: extent.Epoch, Offset: position}, false // what the client has after this opening
	if begin.Asked.Epoch != "" {
		start = begin.Asked
	}
	from := cmp.Or(begin.LastEventID, begin.Position)
	if from != "" {
		named, ok := broker.ParsePosition(from)
		if ok && named.Epoch == extent.Epoch && (named.Offset <= extent.Last || s.topics.shared) {
			start = named
		} else {
			gap = true // it is unknown what the client has
		}
	}
	if start.Epoch != extent.Epoch { // the log was replaced since the backend was asked
		start, gap = broker.Position{Epoch: extent.Epoch, Offset: position}, true
	}
	if start.Offset < min(extent.Trimmed, position) {
		start.Offset, gap = min(extent.Trimmed, position), true // it still gets what is left
	}
	var first *state
	if (from == "" || gap) && extent.Retained+begin.Rewind > 0 {
		first = newState(m.log, names, start.Offset, begin.Rewind)
	}
	if start.Offset < position || first != nil {
		then = m.replayLocked(&Replay{state: first, log: m.log, topics: names, after: start.Offset, upto: max(start.Offset, position)})
	}
	if start.Offset >= position {
		// It may be ahead of this shard, because of what it got from another one, or ahead of
		// this node.
		m.after = start.Offset
		ahead = start.Offset > extent.Last
	}
	id := idOf(m.log, start.Offset)
	if first != nil {
		id = sse.ID{} // it comes behind the state
	}
	if gap {
		// The gap has the id too, since some clients ignore the id of a block without an event.
		opening = append(opening, s.topics.gap(cmp.Or(from, begin.Asked.String()), id))
	}
	if id.IsSet() || retry.IsSet() {
		opening = append(opening, frame.Block(sse.AppendSettings(nil, retry, id)))
	}
	return opening, then, ahead
}

// enterLocked puts a member without topics at the shard's position. If the engine's log was
// replaced and the shard has not switched yet, the member is put at the end of the new log and
// waits there, because its client may already know that the old one has ended.
func (s *shard) enterLocked(m *Member) broker.Stats {
	log, position := s.topics.engine.Log(), s.position
	extent := log.Stats()
	if log != s.log || s.topics.selects != nil { // the past of a topic does not come by the shard
		position = extent.Last
	}
	if m.log == nil || m.log.Epoch() != log.Epoch() {
		m.after = 0
	}
	m.log = log
	m.after = max(m.after, position)
	return extent
}

// GiveUp ends the wait of a member for this node to read as far as its client. It returns the gap
// by which the client learns that it continues from where the node is, and what it gets behind that,
// if there is anything. There is no gap if the node has read that far.
func (m *Member) GiveUp() (gap frame.Frame, then *Replay, late bool) {
	s := m.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	had := broker.Position{Epoch: m.log.Epoch(), Offset: m.after}
	if len(m.topics) == 0 {
		m.log = s.log // a member without topics is not moved along
		defer m.letGoLocked()
	}
	reached := m.log.Stats().Last
	if reached >= had.Offset && m.log.Epoch() == had.Epoch {
		return gap, nil, false
	}
	if m.log == s.log {
		reached = s.position
	}
	m.after = reached
	id := idOf(m.log, reached)
	names := m.Names()
	if first := newState(m.log, names, reached, 0); first != nil {
		then = m.replayLocked(&Replay{state: first, log: m.log, topics: names, after: reached, upto: reached})
		id = sse.ID{}
	}
	return s.topics.gap(had.String(), id), then, true
}

func (t *Topics) isAhead(p broker.Position) bool {
	return slices.ContainsFunc(t.shards, func(s *shard) bool { return s.isAhead(p) })
}

func (s *shard) isAhead(p broker.Position) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.Epoch == s.log.Epoch() {
		return p.Offset > s.position && !s.log.Reaches(p.Offset, s.position)
	}
	return p.Epoch == s.topics.engine.Log().Epoch() && p.Offset > 0 // the shard has yet to reach that log
}

// idOf returns the id by which clients know a position in a log.
func idOf(log *broker.Log, offset uint64) sse.ID {
	id, _ := sse.NewID(broker.Position{Epoch: log.Epoch(), Offset: offset}.String()) // an epoch is a valid id
	return id
}
