package gatewaytest

import (
	"errors"
	"fmt"

	"ssegateway/internal/gateway"
)

// Received is what the client received, known after the test.
type Received struct {
	Body    []byte // what the client read, behind the head of the response
	Chunked bool

	// Handed is everything that the client's socket was given, where that is
	// known: Body is the beginning of it. Exact says that no event is handed
	// whole without the gateway's knowing it.
	Handed []byte
	Exact  bool
}

// Counted is what the gateway's counters should have counted for a connection.
type Counted struct {
	Opened   bool
	Reason   gateway.Reason // zero if the backend is owed nothing
	Accepted int            // events answered with Sent or Buffered

	// Of these sends something else happened to the connection meanwhile: a measure
	// of how concurrent a test is. A loose history knows of none.
	Sends, Overlapping int
}

// Counted returns the sums. Call it after the test.
func (h *History) Counted() Counted {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := Counted{Opened: h.opened}
	if len(h.notices) > 0 {
		c.Reason = h.notices[0].Reason
	}
	for _, s := range h.senders {
		for _, w := range s.sends {
			if w.is && w.accepted() {
				c.Accepted++
			}
			if !h.Loose {
				c.Sends++
				if w.finish > w.start+1 {
					c.Overlapping++
				}
			}
		}
	}
	return c
}

// checker checks a history after the test.
type checker struct {
	*History
	failures []error
	closedBy int64 // by then the connection has certainly closed
}

func (c *checker) failf(format string, args ...any) {
	c.failures = append(c.failures, fmt.Errorf(format, args...))
}

// Check returns an error for each contradiction between the history of a connection that
// has ended and the gateway's promises. Call it once, after the test.
func (h *History) Check(got Received) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := &checker{History: h, closedBy: never}
	c.addCauses()
	c.checkNotices()
	c.checkResults()
	c.checkBody(got)
	if len(c.failures) == 0 {
		return nil
	}
	return fmt.Errorf("%w\n%v", errors.Join(c.failures...), h.textLocked())
}

// addCauses takes what senders did among the causes, and finds closedBy.
func (c *checker) addCauses() {
	switch c.answer.Outcome {
	case gateway.TimedOut:
		c.causes = append(c.causes, cause{gateway.Error, gateway.ConnectTimeout, span{0, never}})
	case gateway.Unanswered:
		c.causes = append(c.causes, cause{gateway.Error, gateway.ConnectUnanswered, span{0, never}})
	case gateway.Refused, gateway.Unreachable, gateway.Unasked:
		c.causes = append(c.causes, cause{gateway.Error, 0, span{0, never}})
	case gateway.Accepted:
	}
	c.eachSend(func(w *send) {
		switch {
		case w.result == gateway.Failed:
			c.closedBy = min(c.closedBy, w.finish) // for which fault is said elsewhere
		case w.end && w.result == gateway.Sent:
			c.causes = append(c.causes, cause{gateway.ServerClosed, 0, w.span})
		case w.end && w.result == gateway.Buffered && c.opened:
			// It is what ends the connection at its opening, if nothing was earlier.
			c.causes = append(c.causes, cause{gateway.ServerClosed, 0, span{w.start, c.opening.finish}})
		}
	})
	for _, x := range c.causes {
		c.closedBy = min(c.closedBy, x.finish)
	}
}

func (c *checker) eachSend(f func(w *send)) {
	for _, s := range c.senders {
		for i := range s.sends {
			f(&s.sends[i])
		}
	}
}

// Owed reports whether the backend must be notified of the end. Call it after the backend
// has answered.
func (h *History) Owed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return owed(h.answer)
}

func owed(a gateway.Answer) bool {
	switch a.Outcome {
	case gateway.Accepted, gateway.Unanswered:
		return true
	case gateway.TimedOut:
		return !a.Unsent
	case gateway.Refused, gateway.Unreachable, gateway.Unasked:
	}
	return false
}

func (c *checker) checkNotices() {
	if c.asked > 1 {
		c.failf("%d connect callbacks", c.asked)
	}
	if !owed(c.answer) {
		if len(c.notices) > 0 {
			c.failf("%d disconnects of a connection that the backend never had", len(c.notices))
		}
		return
	}
	if len(c.notices) != 1 {
		c.failf("%d disconnects instead of one", len(c.notices))
		return
	}
	n := c.notices[0]
	if n.early {
		c.failf("a disconnect before the answer to the connect")
	}
	if number, err := numberOf(n.Request); err != nil || number != c.Number || n.Token != c.token {
		c.failf("a disconnect with another connection's request: %s", n.Request)
	}
	for _, x := range c.causes {
		if x.reason == n.Reason && x.detail == n.Detail && x.start <= c.closedBy {
			return
		}
	}
	c.failf("the reason %v/%v did not occur, or not first: closed by %d", n.Reason, n.Detail, c.closedBy)
}

// occurred reports whether there was any cause to end before a time.
func (c *checker) occurred(before int64) bool {
	for _, x := range c.causes {
		if x.start < before {
			return true
		}
	}
	return false
}

func (c *checker) checkResults() {
	ends := 0
	c.eachSend(func(w *send) {
		after := c.opened && c.opening.before(w.span)
		switch w.result {
		case gateway.Sent:
			if !c.opened || w.before(c.opening) {
				c.failf("%v: Sent, but the stream was not open yet", w.event)
			}
			if w.end {
				ends++
			}
		case gateway.Buffered, gateway.Full:
			if after {
				c.failf("%v: %v, but the stream was open", w.event, resultName(w.result))
			}
		case gateway.Gone:
			if c.asked > 0 && !c.occurred(w.finish) {
				c.failf("%v: Gone, but nothing had ended the connection", w.event)
			}
		case gateway.Failed:
			if !c.occurred(w.finish) {
				c.failf("%v: Failed, but there was no fault", w.event)
			}
		default:
			c.failf("%v: the result %d", w.event, w.result)
		}
		if w.result != gateway.Gone && w.start > c.closedBy {
			c.failf("%v: %v, but the connection had closed by %d", w.event, resultName(w.result), c.closedBy)
		}
		promised := 0
		if w.done != nil && w.accepted() {
			promised = 1
		}
		if len(w.done) != promised {
			c.failf("%v: told %d times whether it was written, promised %d", w.event, len(w.done), promised)
		}
	})
	if ends > 1 {
		c.failf("%d closes were answered with Sent", ends)
	}
}

// earlier reports whether a is known to have been taken before b.
func earlier(a, b *send) bool {
	switch {
	case a.event.Sender == b.event.Sender:
		return a.event.Seq < b.event.Seq
	case a.result == gateway.Buffered && b.result == gateway.Sent:
		return true
	}
	return a.before(b.span)
}

func (c *checker) checkBody(got Received) {
	p, err := parseBody(got.Body, got.Chunked)
	if err != nil {
		c.failf("the client received %w", err)
	}
	if !c.opened && len(got.Body) > 0 {
		c.failf("the client of a stream that never opened received %.80q", got.Body)
	}
	sends := map[Event]*send{}
	var events []Event
	c.eachSend(func(w *send) {
		if w.is {
			sends[w.event] = w
			events = append(events, w.event)
		}
	})
	var order []*send
	received := map[*send]bool{}
	for _, e := range p.events {
		w := sends[e]
		switch {
		case w == nil:
			c.failf("the client received %v, which nobody sent to it", e)
			return
		case received[w]:
			c.failf("the client received %v twice", e)
		case !w.accepted():
			c.failf("the client received %v, which was answered with %v", e, resultName(w.result))
		}
		received[w] = true
		order = append(order, w)
	}
	c.checkOrder(order, received)
	c.checkBlocks(&p, order)
	if len(p.rest) > 0 && !couldBegin(p.rest, got.Chunked, events) {
		c.failf("what was cut is no frame: %.80q", p.rest)
	}
	clean := c.opened && c.clean()
	if clean {
		c.checkClean(&p, got.Chunked, received)
	}
	if p.ended && (len(c.notices) == 0 || c.notices[0].Reason != gateway.ServerClosed) {
		c.failf("the last chunk of a stream that was cut")
	}
	c.checkDone(got, received, clean)
}

// clean reports whether the connection ended in an orderly way for sure: nothing
// occurred, early or late, that cuts a stream.
func (c *checker) clean() bool {
	for _, x := range c.causes {
		// A queue of its own does not overflow any more once it is closed.
		overflow := x.detail == gateway.SlowConsumer && !c.Budgeted
		if x.reason != gateway.ServerClosed && !overflow {
			return false
		}
	}
	return len(c.notices) == 1 && c.notices[0].Reason == gateway.ServerClosed
}

func (c *checker) checkOrder(order []*send, received map[*send]bool) {
	for i, a := range order {
		for _, b := range order[i+1:] {
			if earlier(b, a) {
				c.failf("%v arrived behind %v, but was sent before", b.event, a.event)
			}
		}
	}
	// A cut leaves a beginning: what is missing has nothing behind it.
	c.eachSend(func(w *send) {
		if !w.is || !w.accepted() || received[w] || c.mayDrop(w) {
			return
		}
		for _, b := range order {
			if earlier(w, b) {
				c.failf("%v is missing, but %v, which was sent later, is there", w.event, b.event)
				return
			}
		}
	})
}

// mayDrop reports whether a buffered close may have been in front of w.
func (c *checker) mayDrop(w *send) bool {
	may := false
	c.eachSend(func(b *send) {
		if b != w && w.result == gateway.Buffered && b.end && b.result == gateway.Buffered && !earlier(w, b) {
			may = true
		}
	})
	return may
}

// mustDrop reports whether a buffered close was in front of w for sure.
func (c *checker) mustDrop(w *send) bool {
	must := false
	c.eachSend(func(b *send) {
		if b != w && w.result == gateway.Buffered && b.end && b.result == gateway.Buffered && earlier(b, w) {
			must = true
		}
	})
	return must
}

func (c *checker) checkBlocks(p *body, order []*send) {
	for i, w := range order {
		if c.mustDrop(w) {
			c.failf("%v was sent behind a buffered close, but arrived", w.event)
		}
		if w.result == gateway.Buffered && len(p.heartbeats) > 0 && p.heartbeats[0] <= i {
			c.failf("a heartbeat before %v, which was buffered", w.event)
		}
	}
	draining := len(c.notices) > 0 && c.notices[0].Detail == gateway.Draining
	switch {
	case len(p.retries) > 1, len(p.retries) == 1 && (!draining || p.retries[0] != len(p.events)):
		c.failf("a retry that does not belong there")
	case len(p.heartbeats) > 0 && len(p.retries) > 0 && p.heartbeats[len(p.heartbeats)-1] > p.retries[0]:
		c.failf("a heartbeat behind the retry")
	}
}

// checkClean checks that the client received everything before an orderly end.
func (c *checker) checkClean(p *body, chunked bool, received map[*send]bool) {
	if len(p.rest) > 0 {
		c.failf("torn before an orderly end: %.80q", p.rest)
	}
	if chunked && !p.ended {
		c.failf("an orderly end without the last chunk")
	}
	c.eachSend(func(w *send) {
		if w.is && w.accepted() && !received[w] && !c.mayDrop(w) {
			c.failf("%v, answered with %v, is missing before an orderly end", w.event, resultName(w.result))
		}
	})
}

// checkDone compares the results that waiting senders got with the events handed over.
func (c *checker) checkDone(got Received, received map[*send]bool, clean bool) {
	handed := received
	if got.Handed != nil {
		handed = map[*send]bool{}
		p, err := parseBody(got.Handed, got.Chunked)
		if err != nil {
			c.failf("the client's socket was given %w", err)
		}
		c.eachSend(func(w *send) {
			for _, e := range p.events {
				if w.is && w.event == e {
					handed[w] = true
				}
			}
		})
	}
	c.eachSend(func(w *send) {
		if len(w.done) == 0 {
			return
		}
		err := <-w.done
		switch {
		case err == nil && !handed[w] && (clean || got.Handed != nil):
			c.failf("%v: told to be written, but it was not", w.event)
		case err != nil && handed[w] && (clean || got.Exact):
			c.failf("%v: told not to be written (%w), but it was", w.event, err)
		case err != nil && !errors.Is(err, gateway.ErrNotWritten):
			c.failf("%v: told %w", w.event, err)
		}
	})
}
