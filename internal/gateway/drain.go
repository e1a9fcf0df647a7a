package gateway

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"ssegateway/internal/frame"
	"ssegateway/internal/guard"
	"ssegateway/internal/outbox"
	"ssegateway/sse"
)

// Draining reports whether the gateway takes no new connections.
func (g *Gateway) Draining() bool { return g.draining.Load() }

// Hurry ends the window of a drain, even of one that has not begun.
func (g *Gateway) Hurry() { g.hurry() }

// Drain closes every connection, spread evenly over window except for a rest at its end. It returns
// when all have ended and the rest is over. Connections that have not ended after grace are cut.
//
// During the rest, clients that come back here are still turned away. With n gateways behind a
// proxy that is one client in n. If this gateway ended with its last close, all of those would
// arrive at the other gateways together with the clients that were closed last.
func (g *Gateway) Drain(window, grace time.Duration) {
	g.draining.Store(true)
	g.dropHeld()
	conns := slices.DeleteFunc(g.conns.all(), (*Conn).isForwarded)
	cutRelayed := time.AfterFunc(max(0, window-relayRest), g.cutRelayed)
	defer cutRelayed.Stop()
	defer context.AfterFunc(g.hurried, g.cutRelayed)()
	start := time.Now()
	rest := min(maxRetry*time.Millisecond, window/2)
	var last time.Time // the last close
	for i, c := range conns {
		due := start.Add(share(window-rest, i, len(conns)))
		for time.Now().Before(due) && g.count.Load() > 0 && g.hurried.Err() == nil {
			select {
			case <-time.After(time.Until(due)):
			case <-g.empty: // all clients have left by themselves
			case <-g.hurried.Done():
			}
		}
		apart(func() {
			if c.dismiss(ServerClosed, Draining) {
				last = time.Now()
			}
		})
	}
	rest, more := max(0, time.Until(last.Add(rest))), time.Duration(0)
	if slices.ContainsFunc(g.conns.all(), (*Conn).isForwarded) {
		more = max(0, time.Until(start.Add(window-relayRest))-rest)
	}
	g.await(rest, more, grace)
}

// apart calls f. A panic in f is logged and ends nothing else: what ended another part of the
// program may happen again here, at one connection, and the others still have to be closed.
func apart(f func()) {
	defer guard.Recover()
	f()
}

// share returns the part of d that is over when i of n are done. The product of d and i may be more
// than a Duration holds: an hour and three million connections.
func share(d time.Duration, i, n int) time.Duration {
	whole, part := d/time.Duration(n), d%time.Duration(n)
	return whole*time.Duration(i) + part*time.Duration(i)/time.Duration(n)
}

// await returns when all connections have ended and rest is over. It cuts those that have not ended
// more and grace after that.
func (g *Gateway) await(rest, more, grace time.Duration) {
	// The backend's answers to pending connects may take half of what is left. After that, these
	// connections have ended too.
	rested := time.NewTimer(rest)
	halfTime := time.AfterFunc(rest+more+grace/2, g.giveUp)
	cut := time.NewTimer(rest + more + grace)
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

// dismiss closes the connection and asks its client to come back, perhaps to another node. It
// returns false for a connection that has no client any more, or not yet.
func (c *Conn) dismiss(r Reason, d Detail) bool {
	c.mu.Lock()
	defer c.unlock()
	if c.kind == relayed {
		return false // its end is the backend's, or it is cut
	}
	open := c.state == Open
	if open {
		c.appendLocked(outbox.Item{Frame: frame.Block(RetryBlock())}) // even if the queue is full
	}
	if c.state != Closed {
		c.closeLocked(r, d)
	}
	return open
}

const (
	// A browser comes back after a random time in this range, in milliseconds: the clients of one
	// gateway must not arrive at the next one all at once.
	minRetry, maxRetry = 1000, 5000
)

// RetryBlock asks a client to come back after a random time.
func RetryBlock() []byte { return sse.AppendRetry(nil, sse.RetryMillis(RetryMillis())) }

// RetryMillis returns a random time after which a client may come back, in milliseconds.
func RetryMillis() uint64 {
	return minRetry + rand.Uint64N(maxRetry-minRetry) //nolint:gosec // jitter, not a secret
}
