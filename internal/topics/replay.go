package topics

import (
	"slices"

	"ssegateway/internal/broker"
	"ssegateway/internal/frame"
	"ssegateway/sse"
)

// Replay is what a client missed: the stored records of its topics after one offset, up to and
// including another. It takes them from the log a few at a time, when the client takes them, so a
// long replay needs no more memory than a short one. Its methods are called under the subscriber's
// lock.
type Replay struct {
	member      *Member
	gap         frame.Frame // comes first; zero if there is none
	log         *broker.Log // nil when no topic is left
	topics      []string    // the topics that the member has not given up since
	after, upto uint64
	given       [][]string // of what Next returned last: the topics of each record, none for a gap

	next *Replay // of the member's replays; guarded by the shard's lock
}

// replayBatch is how many records a replay takes at a time, if they are small.
const replayBatch = 64

// Next returns the next records in order, preceded by a gap if there is one: at the beginning, or
// where the log was trimmed meanwhile. It returns at least one record, and otherwise at most that
// many bytes of frames. When the replay is over it returns nothing.
func (r *Replay) Next(most int) (gap frame.Frame, records []*broker.Record) {
	reaches := true
	if len(r.topics) > 0 {
		records, reaches = r.log.Missed(r.after, r.upto, r.topics, replayBatch)
	}
	var gaps []frame.Frame
	if !r.gap.IsZero() {
		gaps = append(gaps, r.gap)
		r.gap = frame.Frame{}
	}
	if !reaches && r.after < r.upto {
		gaps = append(gaps, r.member.shard.topics.gap(broker.Position{Epoch: r.log.Epoch(), Offset: r.after}.String(), sse.ID{}))
	}
	r.given = nil
	if len(gaps) > 0 {
		gap = frame.Join(gaps)
		r.given = append(r.given, nil)
	}
	bytes := 0
	for n, record := range records {
		if bytes += record.Frame.Size(); n > 0 && bytes > most {
			return gap, records[:n]
		}
		r.after = record.Offset
		r.given = append(r.given, record.Topics)
	}
	if len(records) < replayBatch {
		r.after = r.upto
	}
	if len(r.given) == 0 {
		r.member.forget(r)
	}
	return gap, records
}

// remove removes topics from what is still to come.
func (r *Replay) remove(gone map[string]bool) {
	r.topics = slices.DeleteFunc(r.topics, func(name string) bool { return gone[name] })
	if len(r.topics) == 0 {
		r.topics, r.log, r.after = nil, nil, r.upto
	}
}

// Unwanted has one value for each frame that Next returned last, the gap first: whether the frame
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
