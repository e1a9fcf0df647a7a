package gateway

import (
	"slices"

	"ssegateway/internal/frame"
	"ssegateway/internal/topics"
)

// Filter selects connections: by a topic, by a subject, by both, or all if both are empty.
type Filter struct{ Topic, Subject string }

// window is a range of tokens, without its ends. It may become narrower while it is used.
type window struct{ after, upto Token }

func (w *window) has(t Token) bool { return t.compare(w.after) > 0 && t.compare(w.upto) < 0 }

// candidates calls f with all connections in a window that may match, some at a time and in no
// order, and possibly with others. A connection may come twice.
func (g *Gateway) candidates(filter Filter, w *window, f func(some []*Conn)) {
	var conns []*Conn
	switch {
	case filter.Subject != "":
		f(g.subjects.of(filter.Subject))
	// If many connections have the topic it is cheaper to go through the registry, which has the
	// tokens at hand, and needs to look at nothing else of most connections.
	case filter.Topic != "" && int64(g.cfg.Topics.Count(filter.Topic)) < g.count.Load()/8+100:
		g.cfg.Topics.Subscribers(filter.Topic, func(some []topics.Subscriber) {
			conns = conns[:0]
			for _, s := range some {
				if c, ok := s.(*Conn); ok { // not a tail
					conns = append(conns, c)
				}
			}
			f(conns)
		})
	default:
		for shard := range g.conns.shards {
			conns = g.conns.within(conns[:0], shard, w)
			f(conns)
		}
	}
}

// fits reports whether a candidate is not closed and matches. A tail never does.
func (c *Conn) fits(f Filter) bool {
	if c.isTail() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch x := c.extras; {
	case c.state == Closed && !c.heldLocked():
		return false
	case x == nil:
		return f == Filter{}
	default:
		return (f.Subject == "" || f.Subject == x.subject) && (f.Topic == "" || x.member != nil && x.member.Has(f.Topic))
	}
}

// List returns at most limit of the matching connections, ordered by token, after the given one. It
// holds no more than about twice as many at a time, and does not look at those after the best that
// it has.
func (g *Gateway) List(filter Filter, after Token, limit int) []*Conn {
	if limit < 1 {
		return nil
	}
	var list []*Conn
	w := &window{after, lastToken}
	best := func() {
		slices.SortFunc(list, func(a, b *Conn) int { return a.token.compare(b.token) })
		list = slices.Compact(list)
		if len(list) > limit {
			list = list[:limit]
			w.upto = list[limit-1].token
		}
	}
	g.candidates(filter, w, func(some []*Conn) {
		for _, c := range some {
			if !w.has(c.token) || !c.fits(filter) {
				continue
			}
			if list = append(list, c); len(list) > 2*limit {
				best()
			}
		}
	})
	best()
	return list
}

// CloseAll closes the matching connections and returns how many there were.
func (g *Gateway) CloseAll(filter Filter) int {
	n := 0
	g.candidates(filter, &window{upto: lastToken}, func(some []*Conn) {
		for _, c := range some {
			if c.fits(filter) && c.Send(frame.Frame{}, true, nil) != Gone {
				n++
			}
		}
	})
	return n
}
