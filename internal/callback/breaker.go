package callback

import (
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// A backend counts as down after downAfter failures in a row that go back downWithin at least. While it is down,
// one callback in each probeEvery is made.
const (
	downAfter  = 20
	downWithin = 2 * time.Second
	probeEvery = time.Second
)

// breaker knows whether the backend is down. While it is, callbacks are not made, but for one at a time
// as a probe. The first success, of a probe or of any callback that is still under way, ends that.
//
// A failure is a callback without an answer, or one whose answer comes from what stands in front of a backend that is
// away (502, 503, 504). Any other answer is a success: the backend is there. So one instance of several that fails
// does not count as a backend that is down, as long as the others answer.
//
// (failsafe-go's circuit breaker knows no least time of a row, decides on trial calls alone, and tells no waiter of the change.
// The rule itself is shorter than an adapter would be.)
type breaker struct {
	log  *slog.Logger
	back func() // called without the lock when the backend is back

	mu       sync.Mutex
	failures int           // in a row
	since    time.Time     // the first of them
	success  time.Time     // the last one
	down     chan struct{} // closed while the backend is down
	isDown   bool
	refused  uint64    // connects that were refused so far
	start    uint64    // refused when the backend went down
	probed   time.Time // the last probe, or when the backend went down
	restored time.Time // when it was last back; zero: it was never down
}

func (b *breaker) init(log *slog.Logger, back func()) {
	b.log, b.back = log, back
	b.down = make(chan struct{})
}

// failed reports whether a callback's outcome is a failure of the backend.
func (r *reply) failed() bool {
	switch r.status {
	case 0, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// observe takes in the outcome of a callback that was begun at a time. again says that the callback has failed before. Such
// a one is no further failure, so that a few callbacks that fail for their own sake are not taken for the backend.
func (b *breaker) observe(r *reply, begun time.Time, again bool) {
	if r.failed() {
		b.fail(begun, again)
	} else {
		b.succeed()
	}
}

func (b *breaker) fail(begun time.Time, again bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if begun.Before(b.success) {
		return // the success says more of how the backend is now
	}
	now := time.Now()
	if !again {
		if b.failures == 0 {
			b.since = now
		}
		b.failures++
	}
	if b.isDown || b.failures < downAfter || now.Sub(b.since) < downWithin {
		return
	}
	b.isDown, b.probed, b.start = true, now, b.refused
	close(b.down)
	b.log.Warn("the backend is down: clients are refused without a callback, and one callback a second is made, until one is answered",
		"failures", b.failures, "seconds", int(now.Sub(b.since).Seconds()))
}

func (b *breaker) succeed() {
	b.mu.Lock()
	b.failures, b.success = 0, time.Now()
	if !b.isDown {
		b.mu.Unlock()
		return
	}
	b.isDown, b.restored = false, b.success
	b.down = make(chan struct{})
	b.log.Info("the backend is back", "seconds", int(b.restored.Sub(b.since).Seconds()), "refused", b.refused-b.start)
	b.mu.Unlock()
	b.back()
}

// admit reports whether a callback may be made now. While the backend is down that is so once in each interval.
func (b *breaker) admit(every time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.isDown {
		return true
	}
	now := time.Now()
	if now.Sub(b.probed) < every {
		return false
	}
	b.probed = now
	return true
}

// closed reports whether no connect would be admitted now.
func (b *breaker) closed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.isDown && time.Since(b.probed) < probeEvery
}

// refuse counts a connect that was refused.
func (b *breaker) refuse() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused++
}

// gone returns a channel that is closed when the backend is down.
func (b *breaker) gone() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.down
}

// state returns whether the backend is down, when the next probe may be made, and when the backend was last back.
func (b *breaker) state(every time.Duration) (down bool, next, restored time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.isDown, b.probed.Add(every), b.restored
}

// Down reports whether the backend is down.
func (c *Client) Down() bool {
	b := &c.breaker
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.isDown
}

// RefusedConnects returns how many connects were refused so far because the backend was down.
func (c *Client) RefusedConnects() uint64 {
	b := &c.breaker
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused
}
