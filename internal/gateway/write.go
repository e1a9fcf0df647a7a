package gateway

import (
	"sync"

	"ssegateway/internal/outbox"
	"ssegateway/internal/topics"
)

// writeLocked writes an item to the stream, or queues what cannot be written yet. If neither is
// possible, it closes the connection and returns false.
func (c *Conn) writeLocked(i *outbox.Item) bool {
	if c.lag != nil {
		if !c.roomLocked(*i) {
			c.closeLocked(Error, SlowConsumer)
			return false
		}
		c.pushLocked(*i)
		for i, ok := c.lag.Drop(); ok; i, ok = c.lag.Drop() {
			c.overflowedLocked(i)
		}
		return true
	}
	b := i.Frame.Wire(c.chunked)
	n, fault := c.stream.Write(b)
	c.countLocked(n)
	switch {
	case fault != 0:
		c.faultLocked(fault)
		return false
	case n == len(b):
		c.writtenLocked(i)
	default:
		c.lagLocked().PushRest(*i, n)
	}
	return true
}

// roomLocked reports whether the queue may take one more item. An empty queue takes any item. Only
// a pending connection must stay within the budget even then, because it cannot be cut to get back
// below it.
func (c *Conn) roomLocked(i outbox.Item) bool {
	if c.state == Pending && !c.gw.budget.HasRoom(i) {
		return false
	}
	return c.lag == nil || c.lag.Takes(i)
}

// pushLocked appends an item to the outbox.
func (c *Conn) pushLocked(i outbox.Item) { c.lagLocked().Push(i) }

// lagLocked returns the connection's lag, and creates it if there is none.
func (c *Conn) lagLocked() *lag {
	if c.lag == nil {
		c.lag = &lag{conn: c, moved: c.gw.now()}
		c.lag.took.Store(int64(c.lag.moved))
		overflow := outbox.Disconnect
		if c.extras != nil {
			overflow = c.extras.overflow
		}
		c.lag.Init(c.gw.budget, overflow, c.chunked, c.gw.cfg.Envelope)
		if c.stream != nil {
			c.gw.backlog.add(c.lag)
		}
	}
	return c.lag
}

// overflowedLocked counts an item that the overflow policy removed from the queue.
func (c *Conn) overflowedLocked(i outbox.Item) {
	c.extras.drops += uint64(i.Frame.Events()) //nolint:gosec // not negative
	c.dropLocked(i, ErrDropped)
}

// appendLocked is writeLocked without the bound: for what was accepted within it before, and for
// the last bytes of a stream.
func (c *Conn) appendLocked(i outbox.Item) bool {
	if c.lag != nil {
		c.pushLocked(i)
		return true
	}
	return c.writeLocked(&i)
}

func (c *Conn) countLocked(n int) {
	c.bytes += uint64(n)                            //nolint:gosec // not negative
	c.gw.stats.Bytes.add(c.counterShard, uint64(n)) //nolint:gosec // not negative
}

// faultLocked closes the connection because its stream is broken. If the client has left, that is
// the reason: the write failed because of it.
func (c *Conn) faultLocked(fault Detail) {
	if fault == WriteFailed {
		if r, d := c.stream.Left(); r != 0 {
			c.closeLocked(r, d)
			return
		}
	}
	c.closeLocked(Error, fault)
}

func (c *Conn) writtenLocked(i *outbox.Item) {
	if n := uint64(i.Frame.Events()); n > 0 { //nolint:gosec // not negative
		c.events += n
		c.gw.stats.Events.add(c.counterShard, n)
	}
	i.Tell(nil)
}

// advanceLocked records that n bytes of the outbox were written.
func (c *Conn) advanceLocked(n int) {
	c.countLocked(n)
	if n > 0 {
		c.lag.took.Store(int64(c.gw.now()))
	}
	for {
		i, rest, whole := c.lag.Written(n)
		if !whole {
			break
		}
		c.writtenLocked(&i)
		n = rest
	}
	c.releaseEmptyQueueLocked()
}

// releaseEmptyQueueLocked removes an empty outbox. If the client's progress has been looked at, the
// lag stays in the backlog until the client has acknowledged everything, or has gone.
func (c *Conn) releaseEmptyQueueLocked() {
	if c.lag.IsEmpty() {
		if c.lag.progress == 0 || c.state == Closed {
			c.gw.backlog.remove(c.lag)
		}
		c.lag = nil
	}
}

// replayingLocked reports whether a replay is at the front. If so it has the replayer continue it.
func (c *Conn) replayingLocked() bool {
	if c.lag == nil || !c.lag.IsAtSource() {
		return false
	}
	if !c.lag.replaying {
		c.lag.replaying = true
		c.gw.replayer.add(c)
	}
	return true
}

// replay takes the next records of a replay at the front, and writes what the client takes of them.
func (c *Conn) replay() {
	c.mu.Lock()
	defer c.unlock()
	if c.lag == nil || !c.lag.replaying {
		return // closed meanwhile
	}
	c.lag.replaying = false
	c.lag.Refill()
	c.releaseEmptyQueueLocked()
	c.flushLocked()
	if c.gw.budget.Exceeded() {
		c.gw.backlog.overfull()
	}
}

// Replay implements topics.Subscriber.
func (c *Conn) Replay(r *topics.Replay) {
	c.mu.Lock()
	defer c.unlock()
	c.replayLocked(r)
}

// replayLocked has a replay come behind everything else that waits.
func (c *Conn) replayLocked(r *topics.Replay) {
	if c.state != Open {
		return
	}
	c.lagLocked().PushSource(source{r})
	c.replayingLocked()
}

// writeBytes bounds what is joined for one write, and one write of Pump, in bytes. So progress is
// visible while a client takes a large event.
const writeBytes = 16 << 10

var writeBuffers = sync.Pool{New: func() any { return new([writeBytes]byte) }}

// flushLocked writes what waits until the stream is full, and ends a closed
// connection when nothing waits any more.
func (c *Conn) flushLocked() {
	buf, _ := writeBuffers.Get().(*[writeBytes]byte)
	defer writeBuffers.Put(buf)
	for c.lag != nil {
		if c.replayingLocked() {
			return
		}
		b, _ := c.lag.Batch(buf[:])
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
		c.endRestLocked()
	}
}

// Ready is called by the Stream when the client has done something (left), or takes more
// (writable). A call by a stream that is not the connection's is late, and has no effect.
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

// Pump writes what waits in the caller's goroutine, for a Stream whose writes block. It returns
// when nothing waits, or false when the connection has dropped s. One goroutine at a time may pump
// a connection, and its Stream must take nothing in Write.
func (c *Conn) Pump(s Stream, write func(p []byte) Detail) bool {
	c.mu.Lock()
	defer c.unlock()
	buf, _ := writeBuffers.Get().(*[writeBytes]byte)
	defer writeBuffers.Put(buf)
	for c.stream == s {
		if c.replayingLocked() {
			return true
		}
		if c.lag == nil {
			if c.state != Closed {
				return true
			}
			c.endRestLocked()
			break
		}
		b, items := c.lag.Batch(buf[:])
		c.lag.Hold(items)
		fault := c.unlocked(write, b)
		if c.stream != s {
			break
		}
		if fault != 0 {
			c.closeLocked(Error, fault)
			break
		}
		c.advanceLocked(len(b))
	}
	return false
}

// unlocked writes without the lock, and takes the lock again afterwards, even after a panic.
func (c *Conn) unlocked(write func(p []byte) Detail, b []byte) Detail {
	c.mu.Unlock()
	defer c.mu.Lock()
	return write(b)
}
