package gateway

import (
	"slices"
	"sync"

	"ssegateway/internal/frame"
	"ssegateway/internal/outbox"
	"ssegateway/sse"
)

// Conn is one connection, from the client's request until the backend has been notified of its end.
// Its state only moves forward:
//
//	pending   registered; the backend is being asked; what is sent is buffered
//	open      has a Stream; what is sent is written, or queued behind a full one
//	closed    for all callers; the first reason to close is kept
//
// A closed connection may still have its queue to write. If it was closed while pending, it may
// still wait for the backend's answer. When both are over it has ended: it leaves the registry, and
// the backend is notified if it accepted the connection or may have accepted it.
//
// All methods except Pump may be called by any goroutine at any time, and none of them blocks.
//
// The fields that a send or a heartbeat touches come first, in 64 bytes: with many connections each
// of them then costs one fetch from memory instead of three.
type Conn struct {
	gw *Gateway // fixed after construction

	mu sync.Mutex
	// Guarded by mu.
	stream   Stream // nil unless open, or closed with something to write
	lag      *lag   // nil while nothing waits
	events   uint64 // handed to the client's socket
	bytes    uint64 // the same, framing and heartbeats included
	state    State
	chunked  bool // the stream's
	ended    bool
	finished bool // Gateway.finish was called, or is about to be
	kind     kind
	reason   Reason // zero until closed
	detail   Detail

	// Fixed after construction.
	counterShard uint8 // of the counters
	token        Token
	request      []byte // what callbacks repeat: the JSON object {"url":…,"headers":…}
	since        uint32 // when it came, in Unix seconds

	slotIndex int32 // guarded by the lock of the wheel's slot, as slot is

	// Guarded by mu.
	extras          *extras // nil if the backend granted nothing and nobody waits for the end
	needsDisconnect bool    // the backend accepted or may have accepted
	answered        bool    // the backend's answer is known, or known to stay unknown
	closing         bool    // pending: a close is in the buffer

	slot int16
}

// State is a connection's place in its life.
type State uint8

// The states, in their only order.
const (
	Pending State = iota
	Open
	Closed
)

// Token returns the connection's name.
func (c *Conn) Token() Token { return c.token }

// State returns the connection's state.
func (c *Conn) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// unlock releases the lock, and then does what has to be done without it after the connection has
// ended: it finishes the connection.
func (c *Conn) unlock() {
	last := c.ended && !c.finished
	c.finished = c.finished || last
	c.mu.Unlock()
	if last {
		c.gw.finish(c)
	}
}

// Send writes a frame, then closes the connection if end is set. The zero Frame is no frame. done,
// if not nil, needs room for one value. If Send returns Sent or Buffered, done gets nil when the
// frame was handed to the client's socket, or an error of the kind ErrNotWritten. Otherwise it gets
// nothing.
func (c *Conn) Send(f frame.Frame, end bool, done chan<- error) Result {
	return c.send(&outbox.Item{Frame: f, Done: done}, end)
}

// Deliver implements topics.Subscriber.
func (c *Conn) Deliver(f *frame.Shared) bool {
	return c.send(&outbox.Item{Frame: f.Frame, Shared: f}, false) == Sent
}

func (c *Conn) send(i *outbox.Item, end bool) Result {
	r := c.lockAndSend(i, end)
	if c.gw.budget.Exceeded() {
		c.gw.backlog.overfull()
	}
	return r
}

func (c *Conn) lockAndSend(i *outbox.Item, end bool) Result {
	c.mu.Lock()
	defer c.unlock() // also after a panic: one request must not stop what all connections share
	return c.sendLocked(i, end)
}

func (c *Conn) sendLocked(i *outbox.Item, end bool) Result {
	if c.kind != asked {
		if r, is := c.stopLocked(end && i.Frame.IsZero()); is {
			return r
		}
	}
	switch c.state {
	case Closed:
		return Gone
	case Pending:
		return c.bufferLocked(*i, end)
	case Open:
	}
	if !i.Frame.IsZero() && !c.writeLocked(i) {
		if c.reason == ClientClosed {
			return Gone // the client has left, and this write was the first to notice
		}
		return Failed
	}
	if end {
		c.closeLocked(ServerClosed, 0)
	}
	return Sent
}

// bufferLocked keeps an item until the connection opens. What comes after a close is accepted and
// dropped.
func (c *Conn) bufferLocked(i outbox.Item, end bool) Result {
	if c.closing {
		c.dropLocked(i, ErrNotWritten)
		return Buffered
	}
	if !i.Frame.IsZero() {
		if !c.roomLocked(i) {
			return Full
		}
		c.pushLocked(i)
	}
	c.closing = end
	return Buffered
}

// Open gives an accepted connection its stream. It writes the head of the response, what the grant
// contains and what the client missed, then what was buffered; a heartbeat if there is none of
// that. The head goes out in one write with what follows it. If the connection was closed
// meanwhile, Open does not use the stream and returns false.
func (c *Conn) Open(s Stream, head frame.Frame, g Grant) bool {
	c.mu.Lock()
	defer c.unlock()
	if c.state != Pending || !c.answered {
		return false
	}
	if fault := s.Start(); fault != 0 {
		c.closeLocked(Error, OpenFailed)
		return false
	}
	c.state = Open
	c.stream, c.chunked = s, s.Chunked()
	if !c.isTail() {
		c.gw.stats.Pending.Add(-1)
		c.gw.stats.Open.Add(1)
		c.gw.stats.Opened.Add(1)
	}
	c.gw.beats.add(c)

	if r := c.readerLocked(); r != nil {
		c.openReaderLocked(head, r)
		c.closeOpenedLocked()
		return true
	}
	buffered := c.lag
	c.lag = nil
	// Before anything is written: a client that has seen the head misses nothing.
	opening, missed := c.grantLocked(g)
	if opening.IsZero() && missed != nil {
		opening = firstOf(source{missed}) // for the write that has the head
	}
	ready := c.readyFrame()
	if !ready.IsZero() && missed == nil && buffered == nil {
		opening, ready = frame.Join(slices.DeleteFunc([]frame.Frame{opening, ready}, frame.Frame.IsZero)), frame.Frame{}
	}
	if opening.IsZero() && buffered == nil && !c.closing {
		// Some proxies hold a head back until something follows it.
		opening = heartbeatFrame
		c.gw.stats.Heartbeats.add(c.counterShard, 1)
	}
	first := outbox.Item{Frame: frame.Opening(head, opening, c.chunked), Kept: true}
	if missed == nil && buffered == nil {
		c.writeLocked(&first)
	} else {
		c.pushLocked(first)
		if missed != nil {
			c.lag.PushSource(source{missed})
		}
		for buffered != nil && !buffered.IsEmpty() {
			i, _ := buffered.Pop()
			c.pushLocked(i)
		}
		if !ready.IsZero() {
			c.pushLocked(outbox.Item{Frame: ready, Kept: true})
		}
		c.flushLocked()
	}
	c.closeOpenedLocked()
	return true
}

// closeOpenedLocked closes a connection that was to be closed while it was pending.
func (c *Conn) closeOpenedLocked() {
	switch {
	case !c.closing || c.state != Open:
	case c.cutsLocked():
		c.closeLocked(Error, ConnectionLost)
	default:
		c.closeLocked(ServerClosed, 0)
	}
}

// ready is the event that says, with Config.Envelope, that what a stream begins with is over.
var ready = func() frame.Frame {
	name, _ := sse.NewName("ready") // valid
	return frame.Event(sse.Event{Name: name})
}()

// readyFrame returns ready, or the zero Frame if this stream has none.
func (c *Conn) readyFrame() frame.Frame {
	if !c.gw.cfg.Envelope || c.isTail() {
		return frame.Frame{}
	}
	return ready
}

// dropLocked drops an item that was accepted.
func (c *Conn) dropLocked(i outbox.Item, why error) {
	c.gw.stats.Dropped.Add(uint64(i.Frame.Events())) //nolint:gosec // not negative
	i.Tell(why)
}

// closeLocked is the one place where a connection closes. It keeps the first reason. With
// ServerClosed and GatewayLost an open stream first gets what is queued, and its end; any other
// reason cuts it at once. A connection that is closed and still writes is cut by such a reason
// only.
func (c *Conn) closeLocked(r Reason, d Detail) {
	graceful := r == ServerClosed || d == GatewayLost
	if c.state != Closed {
		if c.state == Open {
			c.gw.beats.remove(c)
		}
		switch {
		case c.isTail():
		case c.state == Pending:
			c.gw.stats.Pending.Add(-1)
		case c.state == Open:
			c.gw.stats.Open.Add(-1)
		}
		c.state, c.reason, c.detail = Closed, r, d
		if c.kind != asked {
			c.stopSoon()
		}
		c.revokeLocked()
		if c.stream != nil && (graceful || c.cutsLocked()) {
			if !c.cutsLocked() {
				c.appendLocked(outbox.Item{Frame: frame.End})
			}
			if c.lag == nil && c.stream != nil {
				c.endRestLocked()
			}
			return
		}
	} else if graceful {
		return
	}
	c.endLocked(r == Error)
}

// endLocked drops what waits and the stream, if there are any.
func (c *Conn) endLocked(abort bool) {
	c.dropLagLocked()
	if c.stream != nil {
		c.stream.Close(abort)
		c.stream = nil
	}
	if r := c.readerLocked(); r != nil {
		c.overSoon(r) // until Release
		return
	}
	c.ended = c.answered
}

// dropLagLocked drops what waits.
func (c *Conn) dropLagLocked() {
	l := c.lag
	if l == nil {
		return
	}
	c.lag = nil
	if c.stream != nil {
		c.gw.backlog.remove(l)
	}
	why := ErrNotWritten
	if c.reason == ClientClosed {
		why = ErrLeft
	}
	for i, ok := l.Pop(); ok; i, ok = l.Pop() {
		c.dropLocked(i, why)
	}
}

// Abort closes the connection because of the client or the stream, and cuts it at once.
func (c *Conn) Abort(r Reason, d Detail) {
	c.mu.Lock()
	defer c.unlock()
	c.closeLocked(r, d)
}

// onAnswer takes the backend's answer. If the connection is still pending afterwards, it has to be
// opened.
func (c *Conn) onAnswer(a Answer) {
	c.mu.Lock()
	defer c.unlock()
	c.answered, c.needsDisconnect = true, a.Known()
	switch a.Outcome {
	case Accepted:
	case TimedOut:
		c.closeLocked(Error, ConnectTimeout)
	case Unanswered:
		c.closeLocked(Error, ConnectUnanswered)
	case Unasked:
		c.closeLocked(ClientClosed, 0) // the backend is not told
	case Refused, Unreachable:
		c.closeLocked(Error, 0) // nor is it here
	}
	if c.state == Closed {
		c.endLocked(false)
	}
}
