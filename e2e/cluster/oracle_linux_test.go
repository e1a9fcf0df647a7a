package cluster

import (
	"fmt"
	"slices"
	"time"
)

// expectations are the positions of all events that were answered 200, in order, by topic.
type expectations map[int][]place

type place struct {
	at     position
	number int // of the publication
}

func (r *record) expectations() expectations {
	e := expectations{}
	r.mu.RLock()
	defer r.mu.RUnlock()
	for number, p := range r.publications {
		if p.answered.Load() {
			e[p.topic] = append(e[p.topic], place{p.at, number})
		}
	}
	for _, list := range e {
		slices.SortFunc(list, func(a, b place) int {
			if a.at.before(b.at) {
				return -1
			}
			if b.at.before(a.at) {
				return 1
			}
			return 0
		})
	}
	return e
}

// checkPublishers checks that the positions of each publisher's events are in the order in
// which it published them, and that no position is used twice.
func (r *record) checkPublishers() (wrong []string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	last, taken := map[int]int{}, map[position]int{}
	for number, p := range r.publications {
		if !p.answered.Load() {
			continue
		}
		if other, ok := taken[p.at]; ok {
			wrong = append(wrong, fmt.Sprintf("publications %d and %d have the same position %v", other, number, p.at))
		}
		taken[p.at] = number
		if before, ok := last[p.publisher]; ok && !r.publications[before].at.before(p.at) {
			wrong = append(wrong, fmt.Sprintf("publisher %d: %d at %v, then %d at %v", p.publisher, before, r.publications[before].at, number, p.at))
		}
		last[p.publisher] = number
	}
	return wrong
}

// checkHistory checks that a client's history is complete except for gaps, in order, and
// without events of other topics, and that each gap is due to a loss of the log, so that the
// epoch has changed.
func (r *record) checkHistory(c *client, e expectations) (wrong []string) {
	fail := func(format string, a ...any) {
		wrong = append(wrong, fmt.Sprintf("client %d: ", c.number)+fmt.Sprintf(format, a...))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, what := range c.wrong {
		fail("%s", what)
	}
	if len(c.history) == 0 {
		return wrong
	}
	first, rest := c.history[0], c.history
	switch first.kind {
	case start:
		rest = rest[1:]
	case gap: // the log was lost while the backend was asked
		first.at = first.from
	case event:
		fail("its first stream begins with %v, and not with a position", first)
		return wrong
	}
	var due []place // events of its topics that must still come
	for _, topic := range c.topics {
		due = append(due, e[topic]...)
	}
	slices.SortFunc(due, func(a, b place) int {
		if a.at.before(b.at) {
			return -1
		}
		return 1
	})
	now := first.at
	skip := func(upto position) { // removes events that need not come any more
		for len(due) > 0 && !upto.before(due[0].at) {
			due = due[1:]
		}
	}
	skip(now)
	for _, i := range rest {
		switch i.kind {
		case gap:
			if i.at.epoch <= now.epoch {
				fail("a gap from %v to %v, although nothing of the log was lost", now, i.at)
			}
			if i.from != now && i.from.before(now) {
				fail("a gap from %v, but it had %v", i.from, now)
			}
			skip(i.at)
		case event:
			p := r.publication(i.publication)
			switch {
			case !slices.Contains(c.topics, p.topic):
				fail("event %d of topic %d, which it does not have", i.publication, p.topic)
			case !now.before(i.at):
				fail("event %d at %v after it had %v: doubled, or out of order", i.publication, i.at, now)
			case now.epoch != i.at.epoch:
				fail("event %d at %v after %v without a gap: another log", i.publication, i.at, now)
			case p.answered.Load() && p.at != i.at:
				fail("event %d at %v, but its publisher got %v", i.publication, i.at, p.at)
			}
			for len(due) > 0 && due[0].at.before(i.at) {
				fail("event %d at %v is missing, before %v", due[0].number, due[0].at, i.at)
				due = due[1:]
			}
			skip(i.at)
		}
		now = i.at
		if len(wrong) > 5 {
			return wrong // the rest follows from these
		}
	}
	if c.stays {
		for _, p := range due {
			fail("event %d at %v is missing at the end, after %v", p.number, p.at, now)
		}
	}
	return wrong
}

// settle is how long events that were on their way may still arrive on a stream after its
// disconnect was reported by another node, or a send to it was answered 404.
const settle = 5 * time.Second

// checkConnection checks that the callbacks and answers about a connection were true. lost
// reports whether the other nodes may have considered the node dead at that time. until
// returns when the site was well again after a fault at that time, or else the time itself.
func checkConnection(c *connection, lost func(c *connection, at time.Time) bool, until func(at time.Time) time.Time) (wrong []string) {
	fail := func(format string, a ...any) {
		wrong = append(wrong, fmt.Sprintf("client %d, token %s of node %d: ", c.client, c.token, c.node+1)+fmt.Sprintf(format, a...))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.node < 0 && c.opened.IsZero() {
		return nil // its node died before it asked the backend, which the node that reports the disconnect cannot know
	}
	for _, t := range c.told {
		if c.last.After(until(t.at).Add(settle)) {
			fail("its disconnect was reported (%s %s), but an event came %v later", t.reason, t.detail, c.last.Sub(t.at))
		}
		if t.detail == "gateway_lost" && !lost(c, t.at) {
			fail("reported as gateway_lost, but its node was well")
		}
		if t.node != c.node && t.detail != "gateway_lost" {
			fail("reported by node %d as %s %s", t.node+1, t.reason, t.detail)
		}
	}
	if !c.gone.IsZero() && c.last.After(until(c.gone).Add(settle)) {
		fail("a send was answered 404, but an event came %v later", c.last.Sub(c.gone))
	}
	next := 0
	came := map[int]bool{}
	for _, number := range c.got {
		if came[number] {
			fail("send %d came twice", number)
		}
		came[number] = true
		for ; next < number; next++ {
			if next < len(c.sent) && c.sent[next] == accepted {
				fail("send %d was answered 200 but did not come, while %d did", next, number)
			}
		}
		if next > number { // a send without an answer may come late
			if number < len(c.sent) && c.sent[number] == accepted {
				fail("send %d came after %d", number, next-1)
			}
		} else if number < len(c.sent) && c.sent[number] == refused {
			fail("send %d was refused, but came", number)
		}
		next = max(next, number+1)
	}
	if !c.ended && !c.opened.IsZero() {
		for ; next < len(c.sent); next++ {
			if c.sent[next] == accepted {
				fail("send %d was answered 200 but did not come, on a stream that is open", next)
			}
		}
	}
	return wrong
}
