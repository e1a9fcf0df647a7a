package callback

import (
	"container/heap"
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
)

// notifier delivers notices. Each is in one place at a time: ready, waiting, deferred, or with a
// worker. Workers start when notices are ready, up to the limit, and end when none is. One
// timer moves the notices that are due from waiting to ready.
type notifier struct {
	client *Client
	start  time.Time // what notice's times count from, monotonic

	mu       sync.Mutex
	ctx      context.Context // of the workers; nil unless running
	ready    fifo
	waiting  schedule
	deferred fifo          // by Permit, until Resume
	resumes  int           // Resume calls so far
	timer    *time.Timer   // for the first of waiting; nil: never armed
	pending  int           // ready, waiting, deferred and with a worker
	failed   int           // given up so far
	drained  chan struct{} // closed when pending reaches 0; nil unless a Flush waits
	flushes  int           // Flush calls in progress
	working  int           // workers
	busy     int           // of them, those with a notice
	workers  sync.WaitGroup
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
	n.ready.push(&notice{Notice: what})
	n.hireLocked()
}

// Resume continues with the notices that Permit deferred.
func (c *Client) Resume() {
	n := &c.notifier
	n.mu.Lock()
	defer n.mu.Unlock()
	n.resumes++
	n.deferred.moveTo(&n.ready)
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
// While it runs, retries wait at most flushDelay.
func (c *Client) Flush(ctx context.Context) (undelivered int) {
	n := &c.notifier
	n.mu.Lock()
	defer n.mu.Unlock()
	failed := n.failed
	n.flushes++
	defer func() { n.flushes-- }()
	n.waiting.hasten(n.now(), flushDelay)
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
	for _, q := range []fifo{n.ready, n.deferred} {
		for what := q.head; what != nil; what = what.next {
			f(what.Notice)
		}
	}
	for _, what := range n.waiting {
		f(what.Notice)
	}
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

// armLocked sets the timer for the earliest waiting notice.
func (n *notifier) armLocked() {
	if n.ctx == nil || len(n.waiting) == 0 {
		return
	}
	d := max(0, n.waiting[0].due-n.now())
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
		ctx, resumes := n.ctx, n.resumes
		var a attempt
		n.unlocked(func() {
			a = n.client.notify(ctx, what)
			switch {
			case a.isFinal():
				n.client.cfg.OnFinished(what.Notice, a.result == resultDenied)
			case a.result == ResultRetry && what.attempts == 0:
				n.client.cfg.OnDelayed(what.Notice)
			}
		})
		n.onAttemptLocked(what, a, resumes)
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

// attempt is the outcome of one attempt to deliver a notice.
type attempt struct {
	result string
	reply  reply
	took   time.Duration
}

// Results of an attempt that Permit did not allow: no callback was made.
const (
	resultDeferred = "deferred"
	resultDenied   = "denied"
)

// isFinal reports whether the notice needs no further attempt.
func (a *attempt) isFinal() bool {
	return a.result != "" && a.result != ResultRetry && a.result != resultDeferred
}

// notify makes one attempt to deliver a notice.
func (c *Client) notify(ctx context.Context, what *notice) attempt {
	switch c.cfg.Permit(what.Token) {
	case gateway.Granted:
	case gateway.Deferred:
		return attempt{result: resultDeferred}
	case gateway.Denied:
		return attempt{result: resultDenied}
	}
	traced, head, done := c.cfg.Trace(context.Background(), ActionDisconnect, what.Token)
	start := time.Now()
	message := getBuffer()
	*message = c.appendDisconnect((*message)[:0], &what.Notice, head)
	r := c.exchange(ctx, start.Add(c.cfg.Timeout), *message)
	putBuffer(message)
	a := attempt{reply: r, took: time.Since(start)}
	defer func() { done(a.result, r.status) }()
	switch {
	case r.ok():
		a.result = ResultDelivered
	case r.status != 0 && r.status < 500 && r.status != http.StatusRequestTimeout && r.status != http.StatusTooManyRequests:
		a.result = ResultRejected
	case ctx.Err() != nil && r.status == 0:
		return a // ctx cut it short: no result
	case what.attempts > 0 && c.notifier.now()-what.first >= giveUpAfter:
		a.result = ResultGivenUp
	default:
		a.result = ResultRetry
	}
	c.cfg.Observe(ActionDisconnect, a.result, a.took)
	c.log(traced, a.level(what), ActionDisconnect, what.Token, a.result, &r, a.took,
		slog.String("reason", what.Reason.String()), slog.Int("attempt", int(what.attempts)+1))
	return a
}

// level makes an outage visible without a line for every retry: retries after the first
// failure are logged at debug level.
func (a *attempt) level(what *notice) slog.Level {
	switch {
	case a.result == ResultGivenUp:
		return slog.LevelError
	case a.result == ResultRejected:
		return slog.LevelWarn
	case a.result == ResultRetry && what.attempts > 0:
		return slog.LevelDebug
	default:
		return slog.LevelInfo
	}
}

// onAttemptLocked requeues or removes a notice after an attempt, according to its result.
// resumes is how often Resume had been called before the attempt.
func (n *notifier) onAttemptLocked(what *notice, a attempt, resumes int) {
	switch a.result {
	case "": // cut short by the end of Run
		n.ready.push(what)
		return
	case resultDeferred:
		if n.resumes == resumes {
			n.deferred.push(what)
		} else {
			n.ready.push(what)
		}
		return
	case ResultRetry:
		now := n.now()
		if what.attempts == 0 {
			what.first = now
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
		return
	case ResultGivenUp:
		n.failed++
	}
	n.client.cfg.Requests.Release(what.Request)
	n.pending--
	if n.pending == 0 && n.drained != nil {
		close(n.drained)
		n.drained = nil
	}
}
