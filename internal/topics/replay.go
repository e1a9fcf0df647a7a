package topics

import (
	"ssegateway/internal/broker"
	"ssegateway/internal/frame"
	"ssegateway/sse"
)

// Replay is what a client missed: the stored records of its topics behind after, up to and
// with upto. They are taken from the log a few at a time, as the client takes them, so that
// a long replay takes no more memory than a short one. Its methods are called under the subscriber's lock.
type Replay struct {
	gap         frame.Frame // comes first; none if it is zero
	log         *broker.Log
	topics      []string
	after, upto uint64
}

// replayBatch is how many records a replay takes at a time, if they are small.
const replayBatch = 64

// Next returns the next records, in order, and the gap in front of them, if there is one: at
// the beginning, or where the log was trimmed meanwhile. It returns at least one record and
// otherwise at most so many bytes of frames. When the replay is over it returns neither.
func (r *Replay) Next(most int) (gap frame.Frame, records []*broker.Record) {
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
	bytes := 0
	for n, record := range records {
		if bytes += record.Frame.Size(); n > 0 && bytes > most {
			return gap, records[:n]
		}
		r.after = record.Offset
	}
	if len(records) < replayBatch {
		r.after = r.upto
	}
	return gap, records
}
