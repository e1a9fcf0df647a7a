package gateway

import (
	"context"
	"sync"

	"ssegateway/internal/broker"
	"ssegateway/internal/frame"
	"ssegateway/internal/outbox"
	"ssegateway/sse"
)

// replay is what a client missed: the stored records of its topics behind after, up
// to and with upto. They are taken from the log a few at a time, as the client takes
// them, so that a long replay takes no memory.
type replay struct {
	gap         frame.Frame // comes first; none if it is zero
	log         *broker.Log
	topics      []string
	after, upto uint64
}

// replayer goes on with all replays in turn, from one goroutine: however many clients
// come back at once, their replays take one core, and the others are the live events'.
type replayer struct {
	mu    sync.Mutex
	conns []*Conn
	some  chan struct{} // has a value when conns has
}

func newReplayer() *replayer { return &replayer{some: make(chan struct{}, 1)} }

// add is called under the connection's lock.
func (r *replayer) add(c *Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns = append(r.conns, c)
	select {
	case r.some <- struct{}{}:
	default:
	}
}

func (r *replayer) take() []*Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	conns := r.conns
	r.conns = nil
	return conns
}

// run replays until ctx ends.
func (r *replayer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.some:
		}
		for _, c := range r.take() {
			c.replay()
		}
	}
}

// replayBatch is how many records a replay takes at a time.
const replayBatch = 64

// Next are the next records, in order, as items; none when the replay is over. Where
// the log was trimmed meanwhile there is a gap in front of them.
func (r *replay) Next() []outbox.Item {
	missed, reaches := r.log.Missed(r.after, r.upto, r.topics, replayBatch)
	var items []outbox.Item
	if !r.gap.IsZero() {
		items = append(items, outbox.Item{Frame: r.gap, Kept: true})
		r.gap = frame.Frame{}
	}
	if !reaches && r.after < r.upto {
		items = append(items, outbox.Item{Frame: gapFrame(broker.Position{Epoch: r.log.Epoch(), Offset: r.after}.String(), sse.ID{}), Kept: true})
	}
	for _, record := range missed {
		items = append(items, outbox.Item{Frame: record.Frame.Frame, Shared: &record.Frame, Logged: true, Kept: true})
		r.after = record.Offset
	}
	if len(missed) < replayBatch {
		r.after = r.upto
	}
	return items
}
