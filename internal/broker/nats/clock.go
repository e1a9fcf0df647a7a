package nats

import (
	"sync/atomic"
	"time"
)

// serverClock converts the times of NATS into those of this process: a message is as old here as it is there,
// whatever the wall clocks of the two hosts say. It is safe for concurrent use.
type serverClock struct{ pair atomic.Pointer[clockPair] }

// clockPair is one moment on both clocks.
type clockPair struct{ here, there time.Time }

// set records what NATS's clock says now. The reading of the monotonic clock that now has is kept,
// so that a step of the wall clock changes nothing.
func (c *serverClock) set(now, there time.Time) {
	if !there.IsZero() {
		c.pair.Store(&clockPair{now, there})
	}
}

// local returns when NATS stored a message, by this process's clock; it is never after now.
func (c *serverClock) local(stored, now time.Time) time.Time {
	p := c.pair.Load()
	if p == nil {
		return now
	}
	if at := p.here.Add(stored.Sub(p.there)); at.Before(now) {
		return at
	}
	return now
}
