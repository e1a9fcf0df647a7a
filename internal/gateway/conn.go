package gateway

import (
	"sync"

	"ssegateway/internal/frame"
	"ssegateway/internal/topics"
)

// Conn is one connection, from the client's request to the last word about it to
// the backend. Its life goes forward only:
//
//	pending   registered; the backend is being asked; what is sent is buffered
//	open      has a Stream; what is sent is written, or queued behind a full one
//	closed    for all who ask; the first reason to close is kept
//
// A closed connection may still have its queue to write, and, if it was closed
// while pending, the backend's answer to wait for. When both are over it has
// ended: it leaves the registry, and the backend is told if it accepted or may
// have accepted it.
//
// All methods may be called by any goroutine at any time and none blocks.
//
// What a send or a heartbeat touches comes first, in 64 bytes: where there are many
// connections each costs one fetch from memory, and not three.
type Conn struct {
	gw *Gateway // fixed after construction

	mu sync.Mutex
	// Guarded by mu.
	stream  Stream // nil unless open, or closed with a queue to write
	queue   *queue // nil while nothing waits
	events  uint64 // handed to the client's socket
	bytes   uint64 // the same, framing and heartbeats included
	state   State
	chunked bool // the stream's
	ended   bool
	told    bool
	owed    bool   // the backend accepted or may have accepted: it is owed a disconnect
	reason  Reason // zero until closed
	detail  Detail

	// Fixed after construction.
	cell    uint8 // of the counters
	token   Token
	request []byte // what callbacks repeat: the JSON object {"url":…,"headers":…}
	since   int64  // when it came, in Unix seconds

	// Guarded by mu.
	extras   *extras // nil where the backend granted nothing and nobody waits for the end
	answered bool    // the backend's answer is known, or known to stay unknown
	closing  bool    // pending: a close is in the buffer

	// Guarded by the lock of the wheel's slot.
	slot  int16
	place int32
}

// State is where in its life a connection is.
type State uint8

// The states, in their only order.
const (
	Pending State = iota
	Open
	Closed
)

// Result is what became of a send.
type Result uint8

const (
	// Sent: written, or queued in order behind what could not be written yet.
	Sent Result = iota + 1
	// Buffered: the connection is pending; it is written first once that opens.
	Buffered
	// Gone: the connection is closed, or was never there.
	Gone
	// Full: the buffer of a pending connection is full; nothing was kept.
	Full
	// Failed: it could not be written, and the connection has ended for it.
	Failed
)

// Token is the connection's name.
func (c *Conn) Token() Token { return c.token }

// State is where the connection is now.
func (c *Conn) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// unlock releases the lock, and then does what a step under it left to be done
// outside: the last word about a connection that ended.
func (c *Conn) unlock() {
	last := c.ended && !c.told
	c.told = c.told || last
	c.mu.Unlock()
	if last {
		c.gw.forget(c)
	}
}

// Send writes a frame, then closes the connection if end is set. The zero Frame
// is none. done, if not nil, needs room for one value: it gets nil once the
// frame was handed to the client's socket, or ErrNotWritten, if Send answers
// Sent or Buffered; otherwise nothing.
func (c *Conn) Send(f frame.Frame, end bool, done chan<- error) Result {
	return c.send(&item{frame: f, done: done}, end)
}

// Deliver implements topics.Subscriber.
func (c *Conn) Deliver(f *frame.Shared) bool {
	return c.send(&item{frame: f.Frame, shared: f}, false) == Sent
}

func (c *Conn) send(i *item, end bool) Result {
	r := c.lockAndSend(i, end)
	if c.gw.budget.exceeded() {
		c.gw.backlog.relieve(&c.gw.budget, c.gw.now())
	}
	return r
}

func (c *Conn) lockAndSend(i *item, end bool) Result {
	c.mu.Lock()
	defer c.unlock() // by a panic, too: one request's must not stop what all connections share
	return c.sendLocked(i, end)
}

func (c *Conn) sendLocked(i *item, end bool) Result {
	switch c.state {
	case Closed:
		return Gone
	case Pending:
		return c.bufferLocked(*i, end)
	case Open:
	}
	if !i.frame.IsZero() && !c.writeLocked(i) {
		if c.reason == ClientClosed {
			return Gone // the client has left, and this write was the first to see it
		}
		return Failed
	}
	if end {
		c.closeLocked(ServerClosed, 0)
	}
	return Sent
}

// bufferLocked keeps an item for the time when the connection opens. What comes
// behind a close is accepted and dropped.
func (c *Conn) bufferLocked(i item, end bool) Result {
	if c.closing {
		c.dropLocked(i)
		return Buffered
	}
	if !i.frame.IsZero() {
		if !c.roomLocked(i) {
			return Full
		}
		c.pushLocked(i)
	}
	c.closing = end
	return Buffered
}

// roomLocked says whether the queue may take an item more. An empty queue takes
// any one item, but the budget holds even so for a pending connection: it cannot
// be cut to get back below.
func (c *Conn) roomLocked(i item) bool {
	if c.state == Pending && !c.gw.budget.hasRoom(i.cost()) {
		return false
	}
	return c.queue == nil || c.queue.waiting()+i.cost() <= c.gw.cfg.QueueBytes
}

// pushLocked appends to the queue.
func (c *Conn) pushLocked(i item) {
	if c.queue == nil {
		c.queue = &queue{budget: &c.gw.budget, moved: c.gw.now()}
		c.queue.took.Store(int64(c.queue.moved))
		if c.stream != nil {
			c.gw.backlog.add(c, c.queue)
		}
	}
	c.queue.push(i)
}

// writeLocked writes an item to the stream, or queues what of it cannot be
// written yet. Where neither is possible it closes the connection and answers
// false.
func (c *Conn) writeLocked(i *item) bool {
	if c.queue != nil {
		if !c.roomLocked(*i) && !c.makeRoomLocked(*i) {
			c.closeLocked(Error, SlowConsumer)
			return false
		}
		c.pushLocked(*i)
		return true
	}
	b := i.frame.Wire(c.chunked)
	n, fault := c.stream.Write(b)
	c.countLocked(n)
	switch {
	case fault != 0:
		c.faultLocked(fault)
		return false
	case n == len(b):
		c.writtenLocked(i)
	default:
		c.pushLocked(*i)
		c.queue.offset = n
	}
	return true
}

// makeRoomLocked drops events by the overflow policy until there is room for one
// more, and answers false where the policy is to drop none. If nothing is left to
// drop there is room: an empty queue takes any one item.
func (c *Conn) makeRoomLocked(next item) bool {
	if c.extras == nil || c.extras.overflow == Disconnect {
		return false
	}
	if c.extras.overflow == Latest {
		for _, i := range c.queue.dropSuperseded(next.frame) {
			c.overflowedLocked(i)
		}
	}
	for !c.roomLocked(next) {
		i, ok := c.queue.dropOldest()
		if !ok {
			break
		}
		c.overflowedLocked(i)
	}
	return true
}

// overflowedLocked takes note of an item that the overflow policy took from the queue.
func (c *Conn) overflowedLocked(i item) {
	c.extras.drops++
	c.dropLocked(i)
}

func (c *Conn) countLocked(n int) {
	c.bytes += uint64(n)                    //nolint:gosec // not negative
	c.gw.stats.Bytes.add(c.cell, uint64(n)) //nolint:gosec // not negative
}

// faultLocked closes the connection because its stream is broken. A client that
// left is why a write fails, and was first.
func (c *Conn) faultLocked(fault Detail) {
	if fault == WriteFailed {
		if r, d := c.stream.Left(); r != 0 {
			c.closeLocked(r, d)
			return
		}
	}
	c.closeLocked(Error, fault)
}

func (c *Conn) writtenLocked(i *item) {
	if n := uint64(i.frame.Events()); n > 0 { //nolint:gosec // not negative
		c.events += n
		c.gw.stats.Events.add(c.cell, n)
	}
	i.settle(nil)
}

// advanceLocked takes note that n bytes of the queue were written.
func (c *Conn) advanceLocked(n int) {
	q := c.queue
	c.countLocked(n)
	if n > 0 {
		q.took.Store(int64(c.gw.now()))
	}
	for len(q.items) > 0 && q.items[0].replay == nil {
		front := len(q.front(c.chunked))
		if n < front {
			q.offset += n
			return
		}
		n -= front
		i := q.pop()
		c.writtenLocked(&i)
	}
	c.tidyLocked()
}

// tidyLocked removes an empty queue. One that has been looked at stays in the backlog
// until a look finds that the client has acknowledged everything, or has gone.
func (c *Conn) tidyLocked() {
	if len(c.queue.items) == 0 {
		if c.queue.progress == 0 || c.state == Closed {
			c.gw.backlog.remove(c.queue)
		}
		c.queue = nil
	}
}

// replayingLocked says whether a replay has come to the front, and if so sees to it
// that the replayer goes on with it.
func (c *Conn) replayingLocked() bool {
	if c.queue == nil || c.queue.items[0].replay == nil {
		return false
	}
	if !c.queue.replaying {
		c.queue.replaying = true
		c.gw.replayer.add(c)
	}
	return true
}

// replay takes the next records of a replay that has come to the front, and writes
// what the client takes of them.
func (c *Conn) replay() {
	c.mu.Lock()
	defer c.unlock()
	if c.queue == nil || !c.queue.replaying {
		return // closed meanwhile
	}
	c.queue.replaying = false
	items := nextItems(c.queue.items[0].replay)
	if len(items) == 0 {
		c.queue.pop()
		c.tidyLocked()
	} else {
		c.queue.unshift(items)
	}
	c.flushLocked()
}

// Replay implements topics.Subscriber.
func (c *Conn) Replay(r *topics.Replay) {
	c.mu.Lock()
	defer c.unlock()
	if c.state != Open {
		return
	}
	c.pushLocked(item{replay: r})
	c.replayingLocked()
}

// writeBytes bounds what is put together for one write, and one write of Pump, so
// that a client's progress is seen while it takes a large event.
const writeBytes = 16 << 10

var writeBuffers = sync.Pool{New: func() any { return new([writeBytes]byte) }}

// flushLocked writes what waits until the stream is full, and ends a closed
// connection when nothing waits any more.
func (c *Conn) flushLocked() {
	buf, _ := writeBuffers.Get().(*[writeBytes]byte)
	defer writeBuffers.Put(buf)
	for c.queue != nil {
		if c.replayingLocked() {
			return
		}
		b, _ := c.queue.batch(c.chunked, buf[:0])
		n, fault := c.stream.Write(b)
		c.advanceLocked(n)
		if fault != 0 {
			c.faultLocked(fault)
			return
		}
		if n < len(b) {
			return
		}
	}
	if c.state == Closed {
		c.endLocked(false)
	}
}

// Open gives an accepted connection its stream. It writes the head of the response,
// what the grant says and what the client missed, then what was buffered; a heartbeat
// where there is none of that. The head goes out in one write with what follows it. If
// the connection was closed meanwhile the stream is not used, and Open answers false.
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
	c.gw.stats.Pending.Add(-1)
	c.gw.stats.Open.Add(1)
	c.gw.stats.Opened.Add(1)
	c.gw.beats.add(c)

	buffered := c.queue
	c.queue = nil
	// Before anything is written: who has seen the head misses nothing.
	opening, missed := c.grantLocked(g)
	if opening.IsZero() && buffered == nil && !c.closing {
		// Some proxies hold a head back until there is something behind it.
		opening = heartbeatFrame
		c.gw.stats.Heartbeats.add(c.cell, 1)
	}
	first := item{frame: frame.Opening(head, opening, c.chunked), kept: true}
	if missed == nil && buffered == nil {
		c.writeLocked(&first)
	} else {
		c.pushLocked(first)
		if missed != nil {
			c.pushLocked(item{replay: missed})
		}
		for buffered != nil && len(buffered.items) > 0 {
			c.pushLocked(buffered.pop())
		}
		c.flushLocked()
	}
	if c.closing && c.state == Open {
		c.closeLocked(ServerClosed, 0)
	}
	return true
}

// appendLocked is writeLocked without the bound: for what was accepted within it
// before, and for the gateway's own last words.
func (c *Conn) appendLocked(i item) bool {
	if c.queue != nil {
		c.pushLocked(i)
		return true
	}
	return c.writeLocked(&i)
}

// dropLocked gives up an item that was accepted.
func (c *Conn) dropLocked(i item) {
	c.gw.stats.Dropped.Add(uint64(i.frame.Events())) //nolint:gosec // not negative
	i.settle(ErrNotWritten)
}

// closeLocked is the one place where a connection closes. The first reason is
// kept. Where the gateway closes it, what is queued and the end of the stream
// are written first; otherwise the stream is cut. Called again on a connection
// that still writes, it cuts that short.
func (c *Conn) closeLocked(r Reason, d Detail) {
	graceful := r == ServerClosed || d == GatewayLost
	if c.state != Closed {
		if c.state == Pending {
			c.gw.stats.Pending.Add(-1)
		}
		if c.state == Open {
			c.gw.beats.remove(c)
			c.gw.stats.Open.Add(-1)
		}
		c.state, c.reason, c.detail = Closed, r, d
		c.revokeLocked()
		if c.stream != nil && graceful {
			c.appendLocked(item{frame: frame.End})
			if c.queue == nil && c.stream != nil {
				c.endLocked(false)
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
	if q := c.queue; q != nil {
		c.queue = nil
		if c.stream != nil {
			c.gw.backlog.remove(q)
		}
		for len(q.items) > 0 {
			i := q.pop()
			c.dropLocked(i)
		}
	}
	if c.stream != nil {
		c.stream.Close(abort)
		c.stream = nil
	}
	c.ended = c.answered
}

// Leave closes the connection for something that happened at the client's side
// or to the stream: it is cut at once.
func (c *Conn) Leave(r Reason, d Detail) {
	c.mu.Lock()
	defer c.unlock()
	c.closeLocked(r, d)
}

// shed cuts the connection if what waits for it still waits in q.
func (c *Conn) shed(q *queue) (cut bool) {
	c.mu.Lock()
	defer c.unlock()
	if c.queue != q {
		return false // the client took all of it meanwhile, or has left
	}
	c.closeLocked(Error, SlowConsumer)
	return true
}

// settle takes the backend's answer. A connection that is pending still is to be
// opened.
func (c *Conn) settle(a Answer) {
	c.mu.Lock()
	defer c.unlock()
	c.answered = true
	switch a.Outcome {
	case Accepted:
		c.owed = true
	case TimedOut:
		c.owed = !a.Unsent
		c.closeLocked(Error, ConnectTimeout)
	case Unanswered:
		c.owed = true
		c.closeLocked(Error, ConnectUnanswered)
	case Refused, Unreachable, Unasked:
		c.closeLocked(Error, 0) // nobody is told
	}
	if c.state == Closed {
		c.endLocked(false)
	}
}

// Ready is the Stream's word that the client did something (left), or takes more
// (writable). A word from a stream that is not the connection's is late, and
// without effect.
func (c *Conn) Ready(s Stream, left, writable bool) {
	c.mu.Lock()
	defer c.unlock()
	if c.stream != s {
		return
	}
	if left {
		if r, d := s.Left(); r != 0 {
			c.closeLocked(r, d)
			return
		}
	}
	if writable {
		c.flushLocked()
	}
}

// Pump writes what waits with the caller's goroutine, for a Stream whose writes
// block. It returns when nothing waits, or the connection has dropped s, which
// it answers with false. One goroutine at a time may pump a connection, and its
// Stream must take nothing in Write.
func (c *Conn) Pump(s Stream, write func(p []byte) Detail) bool {
	c.mu.Lock()
	defer c.unlock()
	buf, _ := writeBuffers.Get().(*[writeBytes]byte)
	defer writeBuffers.Put(buf)
	for c.stream == s {
		if c.replayingLocked() {
			return true
		}
		if c.queue == nil {
			if c.state != Closed {
				return true
			}
			c.endLocked(false)
			break
		}
		b, items := c.queue.batch(c.chunked, buf[:0])
		c.queue.busy = items
		fault := c.unlocked(write, b)
		if c.stream != s {
			break
		}
		if fault != 0 {
			c.closeLocked(Error, fault)
			break
		}
		c.queue.busy = 0
		c.advanceLocked(len(b))
	}
	return false
}

// unlocked writes without the lock, which is held again afterwards, also if that panics.
func (c *Conn) unlocked(write func(p []byte) Detail, b []byte) Detail {
	c.mu.Unlock()
	defer c.mu.Lock()
	return write(b)
}

// heartbeat writes a heartbeat, unless other bytes wait already.
func (c *Conn) heartbeat() {
	c.mu.Lock()
	defer c.unlock()
	if c.state != Open || c.queue != nil {
		return
	}
	c.gw.stats.Heartbeats.add(c.cell, 1)
	c.writeLocked(&item{frame: heartbeatFrame})
}

// checkStall cuts the connection if its client has taken nothing for too long. q is
// its queue, or was.
func (c *Conn) checkStall(q *queue) {
	c.mu.Lock()
	defer c.unlock()
	was := c.queue != q
	if was && c.queue != nil && c.queue.progress == 0 {
		c.queue.moved, c.queue.progress = q.moved, q.progress // it goes on with the watch
	}
	if was && (c.queue != nil || c.stream == nil) {
		c.gw.backlog.remove(q)
		return
	}
	if c.stream == nil {
		return
	}
	now := c.gw.now()
	progress, owing := c.stream.Look(q.progress)
	if progress != q.progress || q.replaying { // it need not wait for our replayer
		q.moved = now
	}
	q.progress = progress
	switch {
	case was && !owing:
		c.gw.backlog.remove(q)
	case now-q.moved >= StallDeadline:
		c.closeLocked(Error, Stalled)
	}
}
