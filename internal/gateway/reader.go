package gateway

import (
	"errors"
	"math"
	"net/netip"

	"ssegateway/internal/frame"
	"ssegateway/internal/guard"
	"ssegateway/internal/outbox"
)

// A relayed stream reads an answer of the backend's. Several streams may read the same one. What is kept of it is read
// from where it is kept, by each stream at its own pace: a stream that keeps up gets each event as it comes, one that
// does not takes from what is kept when its client takes more.

// Kept is an answer that streams read. Its methods are safe for concurrent use. All but Over, Stop and Cut are called under
// the lock of a connection.
type Kept interface {
	// Count returns how many events are kept.
	Count() uint64
	// Behind gives the events behind the n-th, up to and including another one, in order: at least one if there is one,
	// and otherwise at most that many bytes.
	Behind(n, upto uint64, most int, give func(*frame.Shared))
	// Describe describes it.
	Describe() AnswerInfo
	// Stop ends it for all who read it.
	Stop()
	// Cut is Stop without a proper end.
	Cut()
	// Over is called when a stream that reads it is over. It calls Release of the connection, now or later: until then the
	// connection counts as one.
	Over(c *Conn)
}

// AnswerInfo describes a relayed answer.
type AnswerInfo struct {
	State     string // as the internal API shows it
	Readers   int
	Bytes     int64 // so far
	Resumable bool  // who loses it can come back
}

// reader is the part of a connection that reads an answer. It is guarded by the connection's lock.
type reader struct {
	kept  Kept
	at    uint64  // the stream has, or its outbox, the events up to this one
	feed  *feed   // gives what comes from now on; nil: that is written at once
	early []piece // for Open, in order
	over  bool    // Kept.Over was called, or is about to be
}

// piece is what waits for Open: a feed, or an item.
type piece struct {
	feed *feed
	item outbox.Item
}

// feed is an [outbox.Source] of events that are kept.
type feed struct {
	r    *reader
	upto uint64
}

// Next implements outbox.Source.
func (f *feed) Next(most int) (items []outbox.Item) {
	f.r.kept.Behind(f.r.at, f.upto, most, func(s *frame.Shared) {
		items = append(items, outbox.Item{Frame: s.Frame, Shared: s})
	})
	f.r.at += uint64(len(items))
	if len(items) == 0 && f.r.feed == f {
		f.r.feed = nil
	}
	return items
}

// openFeed returns a new feed of all that comes.
func (r *reader) openFeed() *feed {
	r.feed = &feed{r: r, upto: math.MaxUint64}
	return r.feed
}

// closeFeed has what comes behind the n-th event be written behind what the feed gives.
func (r *reader) closeFeed(n uint64) {
	if r.feed != nil {
		r.feed.upto, r.feed = n, nil
	}
}

// modest reports whether no other answer is given up to make room for the connection.
func (c *Conn) modest() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.extras != nil && c.extras.modest
}

func (c *Conn) readerLocked() *reader {
	if c.extras == nil {
		return nil
	}
	return c.extras.reader
}

// Relay makes a relayed request a stream that reads an answer, from behind its n-th event, and drops what was sent to it.
// It then waits for Open. An error, one of Config.Addresses, has ended it.
func (c *Conn) Relay(k Kept, n uint64) error {
	spare := c.gw.spare
	if c.modest() {
		spare = noSpare
	}
	if err := c.gw.takeAddress(c.request, spare); err != nil {
		c.Pass()
		return err
	}
	c.mu.Lock()
	defer c.unlock()
	r := &reader{kept: k, at: n}
	r.early = []piece{{feed: r.openFeed()}}
	c.extrasLocked().reader = r
	c.kind, c.answered = relayed, true
	if c.state == Closed {
		c.endLocked(false)
	} else {
		c.dropLagLocked()
	}
	return nil
}

// feedBytes is how much may wait for a stream of what is given to it as it comes. Of what comes then it takes more when its
// client does.
const feedBytes = 64 << 10

// Offer tells a stream that more events are kept: n of them by now. event is the n-th if it is the only one since the call
// before, else nil.
func (c *Conn) Offer(n uint64, event *frame.Shared) {
	c.offer(n, event)
	if c.gw.budget.Exceeded() {
		c.gw.backlog.overfull()
	}
}

func (c *Conn) offer(n uint64, event *frame.Shared) {
	c.mu.Lock()
	defer c.unlock()
	r := c.readerLocked()
	if r == nil || r.at >= n || r.feed != nil {
		return
	}
	switch {
	case c.state == Pending:
		r.early = append(r.early, piece{feed: r.openFeed()})
	case c.state != Open:
	case event != nil && r.at == n-1 && (c.lag == nil || c.lag.Size() < feedBytes):
		r.at = n
		c.appendLocked(outbox.Item{Frame: event.Frame, Shared: event, Kept: true})
	default:
		c.feedLocked(r)
	}
}

// feedLocked has the stream take what is kept.
func (c *Conn) feedLocked(r *reader) {
	idle := c.lag == nil
	c.lagLocked().PushSource(r.openFeed())
	if !idle {
		c.replayingLocked()
		return
	}
	c.lag.Refill()
	c.releaseEmptyQueueLocked()
	c.flushLocked()
}

// Aside writes blocks that are not kept, behind the n-th event. done, which needs room for one value, gets nil when they were
// handed to the client's socket, or an error of the kind ErrNotWritten. Aside returns false, and done gets nothing, if
// the connection has closed. Without done they are left out where there is no room for them.
func (c *Conn) Aside(n uint64, blocks *frame.Shared, done chan<- error) bool {
	c.mu.Lock()
	defer c.unlock()
	r := c.readerLocked()
	if r == nil || c.state == Closed {
		return false
	}
	i := outbox.Item{Frame: blocks.Frame, Shared: blocks, Done: done}
	if done == nil && c.lag != nil && !c.roomLocked(i) {
		return true
	}
	r.closeFeed(n)
	if c.state == Pending {
		if done != nil || len(r.early) < maxEarly {
			r.early = append(r.early, piece{item: i})
		}
		return true
	}
	return c.appendLocked(i)
}

// maxEarly is how many pieces are kept for a stream that is about to open. Further blocks without data are left out.
const maxEarly = 64

// openReaderLocked begins a stream that reads an answer.
func (c *Conn) openReaderLocked(head frame.Frame, r *reader) {
	early := r.early
	r.early = nil
	first := outbox.Item{Kept: true}
	for len(early) > 0 && first.Frame.IsZero() {
		if p := early[0]; p.feed == nil {
			first.Frame, first.Done = p.item.Frame, p.item.Done
		} else if first.Frame = firstOf(p.feed); !first.Frame.IsZero() && min(p.feed.upto, r.kept.Count()) > r.at {
			break // there is more of it
		} else if r.feed == p.feed {
			r.feed = nil
		}
		early = early[1:]
	}
	if first.Frame.IsZero() && (!c.closing || c.cutsLocked()) {
		first.Frame = heartbeatFrame // some proxies hold a head back until something follows it
		c.gw.stats.Heartbeats.add(c.counterShard, 1)
	}
	first.Frame = frame.Opening(head, first.Frame, c.chunked)
	if len(early) == 0 {
		c.writeLocked(&first)
		return
	}
	c.pushLocked(first)
	for _, p := range early {
		if p.feed == nil {
			c.pushLocked(p.item)
		} else {
			c.lag.PushSource(p.feed)
		}
	}
	c.flushLocked()
}

// Finish ends a relayed stream properly, as the backend has, behind all that is kept.
func (c *Conn) Finish() { c.end(false, ServerClosed, 0) }

// Cut ends a relayed stream so that its client sees that it is not whole, behind all that is kept.
func (c *Conn) Cut(d Detail) { c.end(true, Error, d) }

func (c *Conn) end(cut bool, reason Reason, d Detail) {
	c.mu.Lock()
	defer c.unlock()
	if c.state == Closed {
		return
	}
	x := c.extrasLocked()
	x.cut = cut
	if c.state == Pending {
		c.closing = true // for Open
		return
	}
	if r := x.reader; r != nil && r.feed == nil && r.at < r.kept.Count() {
		c.feedLocked(r)
	}
	c.closeLocked(reason, d)
}

// cutsLocked reports whether the stream ends by a cut behind what waits.
func (c *Conn) cutsLocked() bool { return c.extras != nil && c.extras.cut }

// endRestLocked ends a stream when what waited for it has been written. One that is cut, and has no chunks whose last one
// its client would miss, is aborted.
func (c *Conn) endRestLocked() { c.endLocked(c.cutsLocked() && !c.chunked) }

// overSoon tells the answer that its stream is over.
func (c *Conn) overSoon(r *reader) {
	if r.over {
		return
	}
	r.over = true
	for _, p := range r.early {
		p.item.Tell(ErrNotWritten)
	}
	r.early = nil
	go func() {
		defer guard.Recover()
		r.kept.Over(c)
	}()
}

// Release lets go of a connection that has read an answer: it counts no more.
func (c *Conn) Release() {
	c.mu.Lock()
	defer c.unlock()
	c.ended = c.state == Closed
}

// heldLocked reports whether the stream is over, and its answer is read on for those who come back.
func (c *Conn) heldLocked() bool {
	r := c.readerLocked()
	return r != nil && r.over && !c.ended
}

// SetSpare sets what gives up an answer that is read on for nobody, since there is no room for something else: the one that
// has been alone for longest, of those that count for the same address as client, or of all if that is the zero Addr.
// It returns false if there is none. It must be called before connections come.
func (g *Gateway) SetSpare(spare func(client netip.Addr) bool) { g.spare = spare }

func noSpare(netip.Addr) bool { return false }

// takeAddress counts a connection for its client's address.
func (g *Gateway) takeAddress(request []byte, spare func(netip.Addr) bool) error {
	a := g.cfg.Addresses
	if a == nil {
		return nil
	}
	client := ClientIP(request)
	for {
		err := a.Take(client)
		if !IsCrowd(err) || !spare(client) {
			return err
		}
	}
}

// Crowd is an error of Config.Addresses. IsCrowd reports whether there is room when a connection of the address ends.
type Crowd interface {
	error
	IsCrowd() bool
}

// IsCrowd reports whether err is a Crowd that ends when a connection of the address does.
func IsCrowd(err error) bool {
	var c Crowd
	return errors.As(err, &c) && c.IsCrowd()
}

// dropHeld has the answers that are read on for nobody be given up, since nobody can come back.
func (g *Gateway) dropHeld() {
	for _, c := range g.conns.all() {
		c.mu.Lock()
		r, held := c.readerLocked(), c.heldLocked()
		c.mu.Unlock()
		if held {
			apart(func() { r.kept.Over(c) })
		}
	}
}
