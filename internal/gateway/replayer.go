package gateway

import (
	"context"
	"sync"

	"ssegateway/internal/frame"
	"ssegateway/internal/outbox"
	"ssegateway/internal/topics"
)

// replayer continues all replays in turn, in one goroutine: however many clients come back at once,
// their replays take one core and leave the others to live events.
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

// pruneLocked removes from the outbox what replays gave and what has no topic of the member any
// more.
func (c *Conn) pruneLocked(m *topics.Member) {
	if c.lag == nil {
		return
	}
	for _, r := range m.Replays() {
		c.lag.Prune(source{r}, r.Unwanted())
	}
	c.replayingLocked()
}

// source makes a Replay an outbox.Source.
type source struct{ *topics.Replay }

// Next implements outbox.Source.
func (s source) Next(most int) (items []outbox.Item) {
	s.Replay.Next(most, func(f frame.Frame, shared *frame.Shared) {
		items = append(items, outbox.Item{Frame: f, Shared: shared})
	})
	return items
}

// firstOf takes the first frames of a source as one, as few as possible. It is the zero Frame if there are none.
func firstOf(s outbox.Source) frame.Frame {
	items := s.Next(0)
	if len(items) == 0 {
		return frame.Frame{}
	}
	frames := make([]frame.Frame, len(items))
	for n, i := range items {
		frames[n] = i.Frame
	}
	return frame.Join(frames)
}
