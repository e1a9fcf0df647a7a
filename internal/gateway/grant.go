package gateway

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"ssegateway/internal/frame"
	"ssegateway/internal/guard"
	"ssegateway/internal/outbox"
	"ssegateway/sse"
)

// Grant is what the backend said of a connection when it accepted it. The zero
// Grant is that of an answer without a word.
type Grant struct {
	Topics   []string    // what is published on these it receives
	Subject  string      // whose connection it is
	Events   []sse.Event // written first
	Retry    sse.Retry   // for the start of the stream
	MaxAge   time.Duration
	Overflow outbox.Overflow

	// LastEventID is the client's own, in UTF-8: what it had when it lost its last stream.
	LastEventID string
}

// extras is what only some connections have. Guarded by the connection's lock.
type extras struct {
	subject  string
	overflow outbox.Overflow
	drops    uint64
	member   *member       // nil without topics
	age      *time.Timer   // closes it; nil: it may become as old as it likes
	ahead    *time.Timer   // ends its wait for what its client has from another node; nil: it was not ahead
	gone     chan struct{} // closed when the connection closes; nil: nobody waits
}

func (c *Conn) extrasLocked() *extras {
	if c.extras == nil {
		c.extras = &extras{}
	}
	return c.extras
}

// grantLocked makes the connection what the grant says, a member of its topics too.
// It returns what the stream begins with, and the replay behind that; each may be none.
func (c *Conn) grantLocked(g Grant) (opening frame.Frame, missed *replay) {
	var frames []frame.Frame
	if g.Subject != "" || g.Overflow != outbox.Disconnect || g.MaxAge > 0 || len(g.Topics) > 0 {
		x := c.extrasLocked()
		x.subject, x.overflow = strings.Clone(g.Subject), g.Overflow
		if g.MaxAge > 0 {
			// Never later, since credentials are to be checked again by then.
			x.age = time.AfterFunc(g.MaxAge-rand.N(g.MaxAge/10+1), c.expire) //nolint:gosec // jitter, not a secret
		}
	}
	if len(g.Topics) > 0 {
		c.extras.member = &member{conn: c}
		var ahead bool
		frames, missed, ahead = c.gw.topics.of(c).welcome(c.extras.member, g.Topics, g.LastEventID, g.Retry)
		if ahead {
			c.extras.ahead = time.AfterFunc(aheadPatience, c.giveUp)
		}
	} else if g.Retry.IsSet() {
		frames = append(frames, frame.Block(sse.AppendRetry(nil, g.Retry)))
	}
	for _, e := range g.Events {
		frames = append(frames, frame.Event(e))
	}
	if len(frames) == 0 {
		return frame.Frame{}, missed
	}
	return frame.Join(frames), missed
}

// revokeLocked takes back, as the connection closes, what it was granted.
func (c *Conn) revokeLocked() {
	x := c.extras
	if x == nil {
		return
	}
	if x.age != nil {
		x.age.Stop()
	}
	if x.ahead != nil {
		x.ahead.Stop()
	}
	if x.member != nil {
		c.gw.topics.of(c).leaveAll(x.member)
	}
	if x.gone != nil {
		close(x.gone)
	}
}

// expire closes a connection that is as old as it may become.
func (c *Conn) expire() {
	defer guard.Recover()
	c.mu.Lock()
	defer c.unlock()
	if c.state == Open {
		c.closeLocked(ServerClosed, MaxAge)
	}
}

// Gone is closed when the connection closes.
func (c *Conn) Gone() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.extrasLocked()
	if x.gone == nil {
		x.gone = make(chan struct{})
		if c.state == Closed {
			close(x.gone)
		}
	}
	return x.gone
}

// Change adds topics to an open connection's, then removes some, and returns what it
// then has. A topic that is added brings what is published from now on. With its
// first topics the connection gets an id to come back with, as it would at its
// opening. After an error nothing has changed.
func (c *Conn) Change(add, remove []string) (topics []string, err error) {
	topics, err = c.change(add, remove)
	slices.Sort(topics)
	return topics, err
}

func (c *Conn) change(add, remove []string) (topics []string, err error) {
	c.mu.Lock()
	defer c.unlock()
	if c.state != Open {
		return nil, ErrNotOpen
	}
	x := c.extrasLocked()
	m := x.member
	if m == nil {
		m = &member{conn: c}
	}
	join, leave := m.changes(add, remove)
	if len(m.topics)+len(join)-len(leave) > c.gw.cfg.MaxTopics {
		return nil, ErrTooManyTopics
	}
	id := c.gw.topics.of(c).change(m, join, leave)
	if x.member == nil && len(m.topics) > 0 {
		x.member = m
		c.appendLocked(outbox.Item{Frame: frame.Block(sse.AppendID(nil, id)), Kept: true})
	}
	return m.names(), nil
}

// Errors of Change.
var (
	ErrNotOpen       = errors.New("the connection is not open")
	ErrTooManyTopics = errors.New("too many topics")
)

// Info describes a connection.
type Info struct {
	Token    Token
	State    State
	Path     string
	Subject  string
	Topics   []string
	Overflow outbox.Overflow
	Since    time.Time
	Events   uint64 // written
	Bytes    uint64 // written
	Queued   int64  // bytes
	Drops    uint64
}

// Info describes the connection as it is now.
func (c *Conn) Info() Info {
	i := c.info()
	slices.Sort(i.Topics)
	return i
}

func (c *Conn) info() Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := Info{
		Token: c.token, State: c.state, Path: c.Path(), Since: time.Unix(c.since, 0).UTC(),
		Events: c.events, Bytes: c.bytes,
	}
	if c.lag != nil {
		i.Queued = c.lag.Size()
	}
	if x := c.extras; x != nil {
		i.Subject, i.Overflow, i.Drops = x.subject, x.overflow, x.drops
		if x.member != nil {
			i.Topics = x.member.names()
		}
	}
	return i
}

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
		return (f.Subject == "" || f.Subject == x.subject) && (f.Topic == "" || x.member != nil && x.member.has(f.Topic))
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
