package callback

import (
	"container/heap"
	"context"
	"math"
	"sync"
	"time"

	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
)

// notifier delivers notices. Each is in one place at a time: gathering, ready, waiting, deferred, held, or with a
// worker. Workers start when notices are ready, up to the limit, and end when none is. One
// timer moves what is due to ready. A batch counts as one notice everywhere but in pending and failed.
type notifier struct {
	client *Client
	start  time.Time // what notice's times count from, monotonic

	mu        sync.Mutex
	ctx       context.Context // of the workers; nil unless running
	gathering gathering
	ready     fifo
	waiting   schedule
	deferred  fifo          // by Permit, until Resume
	resumes   int           // Resume calls so far
	held      fifo          // while the backend is down
	probe     *notice       // the one in ready that may be tried nevertheless
	timer     *time.Timer   // for what is due next; nil: never armed
	pending   int           // everywhere
	failed    int           // given up so far
	drained   chan struct{} // closed when pending reaches 0; nil unless a Flush waits
	flushes   int           // Flush calls in progress
	working   int           // workers
	busy      int           // of them, those with a notice
	workers   sync.WaitGroup
}

func (n *notifier) init(c *Client) {
	n.client = c
	n.start = time.Now()
}

// Disconnect implements gateway.Backend. Notices queued before Run wait for it.
func (c *Client) Disconnect(what gateway.Notice) {
	n := &c.notifier
	c.cfg.Requests.Keep(what.Request)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pending++
	n.gatherLocked(&notice{Notice: what})
	n.hireLocked()
}

// Resume continues with the notices that Permit deferred.
func (c *Client) Resume() {
	n := &c.notifier
	n.mu.Lock()
	defer n.mu.Unlock()
	n.resumes++
	for what := n.deferred.pop(); what != nil; what = n.deferred.pop() {
		n.gatherLocked(what)
	}
	n.hireLocked()
}

// onBack continues with the notices that were held while the backend was down.
func (n *notifier) onBack() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held.moveTo(&n.ready)
	n.hireLocked()
}

// Pending returns the number of notices that are not delivered yet.
func (c *Client) Pending() int {
	n := &c.notifier
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pending
}

// Flush waits until every notice was delivered or failed for good, or until ctx ends. It
// returns how many were not delivered: those still pending and those given up meanwhile.
// While it runs, retries wait at most flushDelay, and so do probes of a backend that is down.
func (c *Client) Flush(ctx context.Context) (undelivered int) {
	n := &c.notifier
	n.mu.Lock()
	defer n.mu.Unlock()
	failed := n.failed
	n.flushes++
	defer func() { n.flushes-- }()
	n.waiting.hasten(n.now(), flushDelay)
	n.completeLocked()
	n.hireLocked()
	n.armLocked()
	for n.pending > 0 && ctx.Err() == nil {
		if n.drained == nil {
			n.drained = make(chan struct{})
		}
		drained := n.drained
		n.mu.Unlock()
		select {
		case <-drained:
		case <-ctx.Done():
		}
		n.mu.Lock()
	}
	return n.pending + n.failed - failed
}

// Undelivered calls f with every notice that was not delivered and not given up. It may be called
// once Run has returned.
func (c *Client) Undelivered(f func(gateway.Notice)) {
	n := &c.notifier
	n.mu.Lock()
	defer n.mu.Unlock()
	each := func(batch *notice) {
		for what := range batch.members() {
			f(what.Notice)
		}
	}
	for _, q := range []fifo{n.ready, n.deferred, n.held} {
		for what := q.head; what != nil; what = what.next {
			each(what)
		}
	}
	for _, what := range n.waiting {
		each(what)
	}
	each(n.gathering.first)
}

// begin allows workers to start. ctx bounds their attempts.
func (n *notifier) begin(ctx context.Context) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ctx = ctx
	n.hireLocked()
	n.armLocked()
}

// end prevents further attempts.
func (n *notifier) end() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ctx = nil
	if n.timer != nil {
		n.timer.Stop()
	}
}

func (n *notifier) now() time.Duration { return time.Since(n.start) }

// hireLocked starts workers until each ready notice has a free one, up to the limit.
func (n *notifier) hireLocked() {
	for n.ctx != nil && n.working-n.busy < n.ready.len && n.working < n.client.cfg.Concurrency {
		n.working++
		n.workers.Go(n.work)
	}
}

// probeEvery returns how often a backend that is down is probed.
func (n *notifier) probeEveryLocked() time.Duration {
	if n.flushes > 0 {
		return flushDelay
	}
	return probeEvery
}

// armLocked sets the timer for what is due next.
func (n *notifier) armLocked() {
	if n.ctx == nil {
		return
	}
	next := time.Duration(math.MaxInt64)
	if len(n.waiting) > 0 {
		next = n.waiting[0].due
	}
	if n.gathering.len > 0 {
		next = min(next, n.gathering.due)
	}
	if n.held.len > 0 {
		_, probe, _ := n.client.breaker.state(n.probeEveryLocked())
		next = min(next, probe.Sub(n.start))
	}
	if next == math.MaxInt64 {
		return
	}
	d := max(0, next-n.now())
	if n.timer == nil {
		n.timer = time.AfterFunc(d, n.wake)
		return
	}
	n.timer.Reset(d)
}

func (n *notifier) wake() {
	defer guard.Recover()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ctx == nil {
		return
	}
	now := n.now()
	for {
		due := n.waiting.popDue(now)
		if due == nil {
			break
		}
		n.ready.push(due)
	}
	if n.gathering.due <= now {
		n.completeLocked()
	}
	if n.held.len > 0 && n.client.breaker.admit(n.probeEveryLocked()) {
		n.probe = n.held.pop()
		n.ready.push(n.probe)
	}
	n.hireLocked()
	n.armLocked()
}

func (n *notifier) work() {
	defer guard.Recover()
	n.mu.Lock()
	defer n.mu.Unlock()
	for n.ctx != nil {
		what := n.ready.pop()
		if what == nil {
			break
		}
		n.busy++
		ctx, resumes, every := n.ctx, n.resumes, n.probeEveryLocked()
		isProbe := what == n.probe
		if isProbe {
			n.probe = nil
		}
		var a attempt
		var granted, deferred, denied *notice
		n.unlocked(func() {
			if granted, deferred, denied = n.client.sift(what); granted != nil {
				a = n.client.notify(ctx, granted, isProbe, every)
			}
		})
		n.doneLocked(denied)
		n.deferLocked(deferred, resumes)
		if granted != nil {
			n.onAttemptLocked(granted, a)
		}
		if a.reply.status != 0 { // the callback is in flight until its answer's body is read
			n.unlocked(func() { n.client.finish(&a.reply) })
		}
		n.busy--
	}
	n.working--
}

// unlocked calls f without the lock, which is held again afterwards, also if f panics.
func (n *notifier) unlocked(f func()) {
	n.mu.Unlock()
	defer n.mu.Lock()
	f()
}

// onAttemptLocked requeues or removes a notice or a batch after an attempt, according to its result.
func (n *notifier) onAttemptLocked(what *notice, a attempt) {
	switch {
	case a.result == "":
		n.ready.push(what)
	case a.result == resultHeld:
		if !n.client.Down() { // meanwhile
			n.ready.push(what)
			return
		}
		if n.held.push(what); n.held.len == 1 {
			n.armLocked()
		}
	case a.split:
		n.splitLocked(what)
		n.hireLocked()
	case a.result == ResultRetry:
		now := n.now()
		if what.attempts == 0 {
			what.first = uint32((now + time.Second - 1) / time.Second) //nolint:gosec // for 136 years
		}
		what.attempts++
		wait := delay(what.attempts)
		if n.flushes > 0 {
			wait = jitter(min(wait, flushDelay))
		}
		what.due = now + wait
		heap.Push(&n.waiting, what)
		if n.waiting[0] == what {
			n.armLocked()
		}
	default:
		if a.result == ResultGivenUp {
			n.failed++ // one, since a batch is not given up
		}
		n.doneLocked(what)
	}
}

// deferLocked puts aside what Permit has deferred, one by one. resumes is how often Resume had been called before
// Permit was asked.
func (n *notifier) deferLocked(batch *notice, resumes int) {
	for what := range batch.members() {
		what.more = nil
		if n.resumes == resumes {
			n.deferred.push(what)
		} else {
			n.gatherLocked(what)
		}
	}
}

// doneLocked removes what needs no further attempt.
func (n *notifier) doneLocked(batch *notice) {
	for what := range batch.members() {
		n.client.cfg.Requests.Release(what.Request)
		n.pending--
	}
	if n.pending == 0 && n.drained != nil {
		close(n.drained)
		n.drained = nil
	}
}
