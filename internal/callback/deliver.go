package callback

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
)

// sift asks which notices of a batch may be reported now, and returns a batch of each kind. Denied ones are
// finished.
func (c *Client) sift(batch *notice) (granted, deferred, denied *notice) {
	ends := [...]**notice{gateway.Granted: &granted, gateway.Deferred: &deferred, gateway.Denied: &denied}
	attempts, first := batch.attempts, batch.first
	for what := range batch.members() {
		permission := c.cfg.Permit(what.Token)
		what.more, what.attempts, what.first = nil, attempts, first
		*ends[permission] = what
		ends[permission] = &what.more
		if permission == gateway.Denied {
			c.cfg.OnFinished(what.Notice, true)
		}
	}
	return granted, deferred, denied
}

// attempt is the outcome of one attempt to deliver a notice or a batch.
type attempt struct {
	result string // "": it was cut short by the end of Run
	reply  reply
	took   time.Duration
	split  bool // a batch that is to come apart
}

// resultHeld is the result of an attempt that is not made because the backend is down.
const resultHeld = "held"

// notify makes one attempt to deliver a notice or a batch, and tells of its outcome.
func (c *Client) notify(ctx context.Context, what *notice, isProbe bool, every time.Duration) (a attempt) {
	if isProbe || c.breaker.admit(every) {
		a = c.tryToNotify(ctx, what)
	} else {
		a.result = resultHeld
	}
	switch {
	case a.result == "":
	case a.split || a.result == ResultRetry || a.result == resultHeld:
		each(what, func(n *notice) {
			if !n.delayed {
				n.delayed = true
				c.cfg.OnDelayed(n.Notice)
			}
		})
	default:
		each(what, func(n *notice) { c.cfg.OnFinished(n.Notice, false) })
	}
	return a
}

// hooksAtOnce bounds the calls of a hook that one batch has under way: each may wait for a disk.
const hooksAtOnce = 16

// each calls f with every notice of a batch.
func each(batch *notice, f func(*notice)) {
	if batch.more == nil {
		f(batch)
		return
	}
	members := make(chan *notice)
	var all sync.WaitGroup
	for range hooksAtOnce {
		all.Go(func() {
			defer guard.Recover()
			for n := range members {
				f(n)
			}
		})
	}
	for n := range batch.members() {
		members <- n
	}
	close(members)
	all.Wait()
}

func (c *Client) tryToNotify(ctx context.Context, what *notice) attempt {
	action, token := ActionDisconnect, what.Token
	isBatch := c.cfg.Batch > 1 && !what.alone
	if isBatch {
		action, token = ActionDisconnects, gateway.Token{}
	}
	traced, head, done := c.cfg.Trace(context.Background(), action, token)
	start := time.Now()
	message := getBuffer()
	if isBatch {
		*message = c.appendDisconnects((*message)[:0], what, head)
	} else {
		*message = c.appendDisconnect((*message)[:0], &what.Notice, head)
	}
	r := c.exchange(ctx, start.Add(c.cfg.Timeout), *message)
	putBuffer(message)
	a := attempt{reply: r, took: time.Since(start)}
	defer func() { done(a.result, r.status) }()
	if isCut(ctx, &r) {
		return a
	}
	c.breaker.observe(&r, start, what.attempts > 0)
	switch {
	case r.ok():
		a.result = ResultDelivered
	case r.status != 0 && r.status < 500 && r.status != http.StatusRequestTimeout && r.status != http.StatusTooManyRequests:
		a.result = ResultRejected
	case c.notifier.isOver(what):
		a.result = ResultGivenUp
	default:
		a.result = ResultRetry
	}
	a.split = isBatch && (a.result == ResultRejected || a.result == ResultGivenUp)
	c.cfg.Observe(action, a.result, a.took)
	about := slog.String("reason", what.Reason.String())
	if isBatch {
		about = slog.Int("events", what.size())
	}
	c.log(traced, a.level(what), action, token, a.result, &r, a.took, about, slog.Int("attempt", int(what.attempts)+1))
	return a
}

// isOver reports whether a notice has failed for so long that it is given up. The time while the backend was down
// does not count, since it was hardly tried then.
func (n *notifier) isOver(what *notice) bool {
	if what.attempts == 0 {
		return false
	}
	down, _, back := n.client.breaker.state(probeEvery)
	first := time.Duration(what.first) * time.Second
	if !back.IsZero() {
		first = max(first, back.Sub(n.start))
	}
	return !down && n.now()-first >= giveUpAfter
}

// level makes an outage visible without a line for every retry: retries after the first
// failure are logged at debug level.
func (a *attempt) level(what *notice) slog.Level {
	switch {
	case a.split || a.result == ResultRejected:
		return slog.LevelWarn
	case a.result == ResultGivenUp:
		return slog.LevelError
	case a.result == ResultRetry && what.attempts > 0:
		return slog.LevelDebug
	default:
		return slog.LevelInfo
	}
}
