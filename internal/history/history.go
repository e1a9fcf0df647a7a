// Package history keeps the gateway's counts of the last quarter of an hour, in memory of a fixed size:
// what a page of plots begins with. Every Interval it takes one Point, and sends it to those who follow.
package history

import (
	"context"
	"sync"
	"time"

	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/sse"
)

const (
	// Interval is the time between two points.
	Interval = 5 * time.Second
	// Length is how far back the points go.
	Length = 15 * time.Minute

	capacity = int(Length / Interval)
)

// History keeps points. Its methods are safe for concurrent use.
type History struct {
	count  func() Counts
	joined chan struct{} // has a value when somebody has

	mu      sync.Mutex
	points  [capacity]Point // a ring
	taken   int             // points so far; the next is points[taken%capacity]
	joining []follower

	// Of Run's goroutine.
	following []Conn
	last      Counts
}

// Conn is a connection that follows. *gateway.Conn implements it.
type Conn interface {
	Send(f frame.Frame, end bool, done chan<- error) gateway.Result
	Abort(r gateway.Reason, d gateway.Detail)
}

type follower struct {
	conn Conn
	back int // points that it gets first
}

// New makes a History of what count returns. Nothing is kept before Run.
func New(count func() Counts) *History {
	return &History{count: count, joined: make(chan struct{}, 1)}
}

// Run takes the points, until ctx ends.
func (h *History) Run(ctx context.Context) error {
	ticker := time.NewTicker(Interval)
	defer ticker.Stop()
	h.last = h.count()
	h.take()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			h.send(h.take())
		case <-h.joined:
		}
		h.welcome()
	}
}

// Points returns the points of the last d, the oldest first.
func (h *History) Points(d time.Duration) []Point {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lastLocked(pointsIn(d))
}

// Follow has a connection get the points of the last d, and then each new one, as an event whose data is the
// point as JSON. A connection that is closed, or takes no more, gets nothing further.
func (h *History) Follow(c Conn, d time.Duration) {
	h.mu.Lock()
	h.joining = append(h.joining, follower{c, pointsIn(d)})
	h.mu.Unlock()
	select {
	case h.joined <- struct{}{}:
	default:
	}
}

func pointsIn(d time.Duration) int { return min(int(d/Interval), capacity) }

func (h *History) lastLocked(n int) []Point {
	n = min(n, h.taken)
	points := make([]Point, 0, n)
	for i := h.taken - n; i < h.taken; i++ {
		points = append(points, h.points[i%capacity])
	}
	return points
}

// take adds the point of this moment.
func (h *History) take() Point {
	now := h.count()
	p := pointOf(time.Now().UTC(), now, h.last)
	h.last = now
	h.mu.Lock()
	defer h.mu.Unlock()
	h.points[h.taken%capacity] = p
	h.taken++
	return p
}

// welcome sends what there is to those who have joined.
func (h *History) welcome() {
	h.mu.Lock()
	joining := h.joining
	h.joining = nil
	h.mu.Unlock()
	for _, f := range joining {
		h.mu.Lock()
		points := h.lastLocked(f.back)
		h.mu.Unlock()
		frames := make([]frame.Frame, len(points))
		for i, p := range points {
			frames[i] = p.event()
		}
		if len(frames) == 0 || sent(f.conn, frame.Join(frames)) {
			h.following = append(h.following, f.conn)
		}
	}
}

// send sends a point to all who follow.
func (h *History) send(p Point) {
	if len(h.following) == 0 {
		return
	}
	event := p.event()
	kept := h.following[:0]
	for _, c := range h.following {
		if sent(c, event) {
			kept = append(kept, c)
		}
	}
	clear(h.following[len(kept):])
	h.following = kept
}

// sent sends a frame to a connection, and cuts one that cannot take it: it must not miss a point.
func sent(c Conn, f frame.Frame) bool {
	switch c.Send(f, false, nil) {
	case gateway.Sent, gateway.Buffered:
		return true
	default:
		c.Abort(gateway.Error, gateway.SlowConsumer)
		return false
	}
}

func (p Point) event() frame.Frame {
	return frame.Event(sse.Event{Data: string(p.JSON())})
}
