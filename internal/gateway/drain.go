package gateway

import (
	"math/rand/v2"
	"time"

	"ssegateway/internal/frame"
	"ssegateway/internal/guard"
	"ssegateway/internal/outbox"
	"ssegateway/sse"
)

// Draining says that the gateway takes no new connections.
func (g *Gateway) Draining() bool { return g.draining.Load() }

// Hurry ends the window of a drain, of one that is still to come, too.
func (g *Gateway) Hurry() { g.hurry() }

// Drain closes every connection, spread evenly over window but for a rest at its end, and
// returns when all have ended and the rest is over. What has not ended when then grace is
// over is cut.
//
// In the rest clients that come back here are still turned away. Those are one in n where
// a proxy has n gateways; if this one ended with its last close, all of them would arrive
// at the others beside those closed last.
func (g *Gateway) Drain(window, grace time.Duration) {
	g.draining.Store(true)
	conns := g.conns.all()
	start := time.Now()
	rest := min(maxRetry*time.Millisecond, window/2)
	var last time.Time // of the closes
	for i, c := range conns {
		due := start.Add(share(window-rest, i, len(conns)))
		for time.Now().Before(due) && g.count.Load() > 0 && g.hurried.Err() == nil {
			select {
			case <-time.After(time.Until(due)):
			case <-g.empty: // they all left by themselves
			case <-g.hurried.Done():
			}
		}
		apart(func() {
			if c.dismiss(ServerClosed, Draining) {
				last = time.Now()
			}
		})
	}
	g.await(max(0, time.Until(last.Add(rest))), grace)
}

// apart calls f, whose panic is told of and ends nothing else: what ended another part may be
// met here again, at one connection, and the others are still to be told.
func apart(f func()) {
	defer guard.Recover()
	f()
}

// share is the part of d that is over when i of n are done. The product of d and i may be
// more than a Duration holds: an hour and three million connections.
func share(d time.Duration, i, n int) time.Duration {
	whole, part := d/time.Duration(n), d%time.Duration(n)
	return whole*time.Duration(i) + part*time.Duration(i)/time.Duration(n)
}

// await returns when all connections have ended and rest is over. It cuts what has not
// ended grace after that.
func (g *Gateway) await(rest, grace time.Duration) {
	// The backend's answers to pending connects may take as long as half of what
	// is left; then it is told that they ended.
	rested := time.NewTimer(rest)
	halfTime := time.AfterFunc(rest+grace/2, g.giveUp)
	cut := time.NewTimer(rest + grace)
	defer rested.Stop()
	defer halfTime.Stop()
	defer cut.Stop()
	hurried := g.hurried.Done()
	for resting := true; resting || g.count.Load() > 0; {
		select {
		case <-rested.C:
			resting = false
		case <-hurried:
			hurried, resting = nil, false
			halfTime.Reset(grace / 2)
			cut.Reset(grace)
		case <-g.empty:
		case <-cut.C:
			g.giveUp()
			for _, c := range g.conns.all() {
				apart(func() { c.Abort(Error, Stalled) })
			}
			return
		}
	}
}

// dismiss closes the connection and asks its client to come back, by another node
// perhaps. It answers false for one that has no client any more, or not yet.
func (c *Conn) dismiss(r Reason, d Detail) bool {
	c.mu.Lock()
	defer c.unlock()
	open := c.state == Open
	if open {
		c.appendLocked(outbox.Item{Frame: frame.Block(RetryBlock())}) // no queue is too full for it
	}
	if c.state != Closed {
		c.closeLocked(r, d)
	}
	return open
}

const (
	// A browser that is told to come back does so at random in this range, in
	// milliseconds: clients of one gateway must not arrive at the next all at once.
	minRetry, maxRetry = 1000, 5000
)

// RetryBlock asks a client to come back at a random time.
func RetryBlock() []byte {
	ms := minRetry + rand.Uint64N(maxRetry-minRetry) //nolint:gosec // jitter, not a secret
	return sse.AppendRetry(nil, sse.RetryMillis(ms))
}
