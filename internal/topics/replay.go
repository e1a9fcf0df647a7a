package topics

import (
	"slices"

	"ssegateway/internal/broker"
	"ssegateway/internal/frame"
	"ssegateway/sse"
)

// Replay is what a client has to get before what is live: what it missed, which are the stored records
// of its topics after one offset, up to and including another; and, before that, a State, if one is due.
// It takes them from the log a few at a time, when the client takes them, so a long replay needs no more
// memory than a short one. Its methods are called under the subscriber's lock.
type Replay struct {
	member      *Member
	gap         frame.Frame // comes first; zero if there is none
	state       *state      // comes before what was missed; nil if there is none
	log         *broker.Log // nil when no topic is left
	topics      []string    // the topics that the member has not given up since
	after, upto uint64
	given       [][]string // of what Next gave last: the topics of each record, none for anything else

	next *Replay // of the member's replays; guarded by the shard's lock
}

// state is what a client gets that has no position: what its topics retain, and the newest events of each. It ends
// with the id of the position that it belongs to, so a client that is cut before that comes back with an older one.
// Records of the log that are trimmed while the client reads are left out, but those that are retained.
type state struct {
	after, upto uint64
	rewind      int    // how many events of each topic
	id          sse.ID // of the position upto
}

// newState returns the state up to an offset. It returns nil if there is nothing in it.
func newState(log *broker.Log, topics []string, upto uint64, rewind int) *state {
	if !log.HasState(upto, topics, rewind) {
		return nil
	}
	return &state{upto: upto, rewind: rewind, id: idOf(log, upto)}
}

// replayBatch is how many records a replay takes at a time, if they are small.
const replayBatch = 64

// Next gives the next frames in order: records, a gap where one is told, at the beginning or where the log was trimmed
// meanwhile, and the id behind a state. It gives at least one frame, and otherwise at most that many bytes of
// records. When the replay is over it gives nothing.
func (r *Replay) Next(most int, give func(f frame.Frame, shared *frame.Shared)) {
	r.given = nil
	if !r.gap.IsZero() {
		r.giveFrame(r.gap, give)
		r.gap = frame.Frame{}
	}
	if r.state != nil {
		r.nextState(most, give)
		return
	}
	var records []*broker.Record
	reaches := true
	if len(r.topics) > 0 {
		records, reaches = r.log.Missed(r.after, r.upto, r.topics, replayBatch)
	}
	if !reaches && r.after < r.upto {
		r.giveFrame(r.member.shard.topics.gap(broker.Position{Epoch: r.log.Epoch(), Offset: r.after}.String(), sse.ID{}), give)
		goesOn := min(r.log.Stats().Trimmed, r.upto)
		if r.state = newState(r.log, r.topics, goesOn, 0); r.state != nil {
			r.after = goesOn
			return
		}
	}
	if n := r.giveRecords(records, most, &r.after, give); n == len(records) && n < replayBatch {
		r.after = r.upto
	}
	if len(r.given) == 0 {
		r.member.forget(r)
	}
}

// nextState gives the next records of the state, and its id if those were the last.
func (r *Replay) nextState(most int, give func(f frame.Frame, shared *frame.Shared)) {
	s := r.state
	var records []*broker.Record
	if len(r.topics) > 0 {
		records = r.log.State(s.after, s.upto, r.topics, s.rewind, replayBatch)
	}
	if n := r.giveRecords(records, most, &s.after, give); n == len(records) && n < replayBatch {
		r.giveFrame(frame.Block(sse.AppendID(nil, s.id)), give)
		r.state = nil
	}
}

// giveRecords gives the first of some records, at least one and otherwise at most that many bytes, and returns how
// many. after becomes the offset of the last.
func (r *Replay) giveRecords(records []*broker.Record, most int, after *uint64, give func(f frame.Frame, shared *frame.Shared)) (n int) {
	bytes := 0
	for n, record := range records {
		if bytes += record.Frame.Size(); n > 0 && bytes > most {
			return n
		}
		*after = record.Offset
		r.given = append(r.given, record.Topics)
		give(record.Frame.Frame, &record.Frame)
	}
	return len(records)
}

// giveFrame gives a frame that has no topics.
func (r *Replay) giveFrame(f frame.Frame, give func(f frame.Frame, shared *frame.Shared)) {
	r.given = append(r.given, nil)
	give(f, nil)
}

// remove removes topics from what is still to come.
func (r *Replay) remove(gone map[string]bool) {
	r.topics = slices.DeleteFunc(r.topics, func(name string) bool { return gone[name] })
	if len(r.topics) == 0 {
		r.topics, r.log, r.after = nil, nil, r.upto
	}
}

// Unwanted has one value for each frame that Next gave last: whether the frame
// has none of the replay's topics any more. A frame that was reported once is not reported again.
func (r *Replay) Unwanted() []bool {
	wanted := make(map[string]bool, len(r.topics))
	for _, name := range r.topics {
		wanted[name] = true
	}
	unwanted := make([]bool, len(r.given))
	rest := r.given[:0]
	for i, of := range r.given {
		unwanted[i] = of != nil && !slices.ContainsFunc(of, func(name string) bool { return wanted[name] })
		if !unwanted[i] {
			rest = append(rest, of)
		}
	}
	clear(r.given[len(rest):])
	r.given = rest
	return unwanted
}
