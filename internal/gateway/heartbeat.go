package gateway

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"ssegateway/internal/frame"
	"ssegateway/internal/outbox"
	"ssegateway/sse"
)

var heartbeatFrame = frame.Block([]byte(sse.Heartbeat))

const (
	minTick  = 100 * time.Millisecond
	maxSlots = 4096
)

// wheel gives every open stream its heartbeats. It needs one timer for all of them. It turns once
// per interval, and moves on by one slot per tick. A stream stays in its slot.
type wheel struct {
	tick  time.Duration
	slots []slot
	// now is the slot that beats next. It has a single writer. Streams that join read it, and one
	// tick more or less makes no difference to them.
	now atomic.Int64
}

type slot struct {
	mu    sync.Mutex
	conns []*Conn
}

func newWheel(interval time.Duration) *wheel {
	n := min(max(int(interval/minTick), 1), maxSlots)
	return &wheel{tick: interval / time.Duration(n), slots: make([]slot, n)}
}

// add adds a stream that opens now. Its first heartbeat comes after half an interval to a whole
// one, at random, so that streams that open together do not beat together. Then there is one every
// interval.
func (w *wheel) add(c *Conn) {
	n := len(w.slots)
	c.slot = int16((int(w.now.Load()) + n/2 + rand.IntN(n-n/2)) % n) //nolint:gosec // at most maxSlots; a phase needs no secrecy
	s := &w.slots[c.slot]
	s.mu.Lock()
	defer s.mu.Unlock()
	c.slotIndex = int32(len(s.conns)) //nolint:gosec // a slot never has 2^31 streams
	s.conns = append(s.conns, c)
}

func (w *wheel) remove(c *Conn) {
	s := &w.slots[c.slot]
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.conns) - 1
	moved := s.conns[last]
	s.conns[c.slotIndex], moved.slotIndex = moved, c.slotIndex
	s.conns[last] = nil
	s.conns = s.conns[:last]
	if last == 0 {
		s.conns = nil
	}
}

// run turns the wheel until ctx ends.
func (w *wheel) run(ctx context.Context) {
	// A Ticker would drop ticks that it cannot deliver in time. This loop catches up, unless it has
	// missed a whole turn.
	next := time.Now().Add(w.tick)
	timer := time.NewTimer(w.tick)
	defer timer.Stop()
	var beating []*Conn // reused: a turn allocates nothing
	for i := 0; ; i = (i + 1) % len(w.slots) {
		w.now.Store(int64(i))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if next = next.Add(w.tick); time.Since(next) > w.tick*time.Duration(len(w.slots)) {
			next = time.Now()
		}
		timer.Reset(time.Until(next))
		beating = w.slots[i].beat(beating)
	}
}

// beat gives the slot's streams their heartbeat. It reuses beating, and returns it.
func (s *slot) beat(beating []*Conn) []*Conn {
	s.mu.Lock()
	beating = append(beating[:0], s.conns...)
	s.mu.Unlock()
	for _, c := range beating {
		c.heartbeat()
	}
	clear(beating) // do not keep closed connections alive
	return beating
}

// heartbeat writes a heartbeat, unless other bytes wait already.
func (c *Conn) heartbeat() {
	c.mu.Lock()
	defer c.unlock()
	if c.state != Open || c.lag != nil {
		return
	}
	c.gw.stats.Heartbeats.add(c.counterShard, 1)
	c.writeLocked(&outbox.Item{Frame: heartbeatFrame})
}
