package topics

import (
	"ssegateway/internal/broker"
	"ssegateway/internal/frame"
	"ssegateway/sse"
)

// Replay is what a client missed: the stored records of its topics behind after, up to and
// with upto. They are taken from the log a few at a time, as the client takes them, so that
// a long replay takes no memory. Its methods are called under the subscriber's lock.
type Replay struct {
	gap         frame.Frame // comes first; none if it is zero
	log         *broker.Log
	topics      []string
	after, upto uint64
}

// replayBatch is how many records a replay takes at a time.
const replayBatch = 64

// Next are the next records, in order, and the gap in front of them, if there is one: at
// the beginning, or where the log was trimmed meanwhile. When the replay is over there is
// neither.
func (r *Replay) Next() (gap frame.Frame, records []*broker.Record) {
	records, reaches := r.log.Missed(r.after, r.upto, r.topics, replayBatch)
	var gaps []frame.Frame
	if !r.gap.IsZero() {
		gaps = append(gaps, r.gap)
		r.gap = frame.Frame{}
	}
	if !reaches && r.after < r.upto {
		gaps = append(gaps, Gap(broker.Position{Epoch: r.log.Epoch(), Offset: r.after}.String(), sse.ID{}))
	}
	if len(gaps) > 0 {
		gap = frame.Join(gaps)
	}
	if len(records) == replayBatch {
		r.after = records[replayBatch-1].Offset
	} else {
		r.after = r.upto
	}
	return gap, records
}
