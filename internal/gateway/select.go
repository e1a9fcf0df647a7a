package gateway

import (
	"slices"

	"ssegateway/internal/frame"
)

// Filter selects connections: by a topic, by a subject, or, where both are empty, all.
// Both together select those that fit both.
type Filter struct{ Topic, Subject string }

// fits says whether the connection is not closed, and fits.
func (c *Conn) fits(f Filter) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch x := c.extras; {
	case c.state == Closed:
		return false
	case x == nil:
		return f == Filter{}
	default:
		return (f.Subject == "" || f.Subject == x.subject) && (f.Topic == "" || x.member != nil && x.member.Has(f.Topic))
	}
}

// List returns the connections that fit, by token, from behind the token after,
// at most limit of them. It holds no more than twice as many at a time, and does not
// look at those that are behind the best it has.
func (g *Gateway) List(f Filter, after Token, limit int) []*Conn {
	if limit < 1 {
		return nil
	}
	var list []*Conn
	upto := lastToken
	best := func() {
		slices.SortFunc(list, func(a, b *Conn) int { return a.token.compare(b.token) })
		if len(list) > limit {
			list = list[:limit]
		}
	}
	var conns []*Conn
	for shard := range g.conns.shards {
		conns = g.conns.between(conns[:0], shard, after, upto)
		for _, c := range conns {
			if c.token.compare(upto) >= 0 {
				continue
			}
			if c.fits(f) {
				list = append(list, c)
			}
			if len(list) > 2*limit {
				best()
				upto = list[limit-1].token
			}
		}
	}
	best()
	return list
}

// CloseAll closes the connections that fit, and says how many.
func (g *Gateway) CloseAll(f Filter) int {
	n := 0
	for _, c := range g.conns.all() {
		if c.fits(f) && c.Send(frame.Frame{}, true, nil) != Gone {
			n++
		}
	}
	return n
}
