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
	"ssegateway/internal/topics"
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

// extras is what only some connections have. Guarded by the connection's lock; once it is
// there it stays.
type extras struct {
	subject  string
	next     *Conn // with the same subject, and the one before; guarded by the lock of subjects
	previous *Conn
	overflow outbox.Overflow
	drops    uint64
	member   *topics.Member // nil without topics
	age      *time.Timer    // closes it; nil: it may become as old as it likes
	ahead    *time.Timer    // ends its wait for what its client has from another node; nil: it was not ahead
	gone     chan struct{}  // closed when the connection closes; nil: nobody waits
}

func (c *Conn) extrasLocked() *extras {
	if c.extras == nil {
		c.extras = &extras{}
	}
	return c.extras
}

// grantLocked makes the connection what the grant says, a member of its topics too.
// It returns what the stream begins with, and the replay behind that; each may be none.
func (c *Conn) grantLocked(g Grant) (opening frame.Frame, missed *topics.Replay) {
	var frames []frame.Frame
	if g.Subject != "" || g.Overflow != outbox.Disconnect || g.MaxAge > 0 || len(g.Topics) > 0 {
		x := c.extrasLocked()
		x.subject, x.overflow = strings.Clone(g.Subject), g.Overflow
		if x.subject != "" {
			c.gw.subjects.add(c)
		}
		if g.MaxAge > 0 {
			// Never later, since credentials are to be checked again by then.
			x.age = time.AfterFunc(g.MaxAge-rand.N(g.MaxAge/10+1), c.expire) //nolint:gosec // jitter, not a secret
		}
	}
	if len(g.Topics) > 0 {
		c.extras.member = c.newMember()
		var ahead bool
		frames, missed, ahead = c.extras.member.Welcome(g.Topics, g.LastEventID, g.Retry)
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

func (c *Conn) newMember() *topics.Member { return c.gw.cfg.Topics.NewMember(c, c.token[shardByte]) }

// revokeLocked takes back, as the connection closes, what it was granted.
func (c *Conn) revokeLocked() {
	x := c.extras
	if x == nil {
		return
	}
	if x.subject != "" {
		c.gw.subjects.remove(c)
	}
	if x.age != nil {
		x.age.Stop()
	}
	if x.ahead != nil {
		x.ahead.Stop()
	}
	if x.member != nil {
		x.member.Leave()
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
// then has. A topic that is added brings what is published from now on; of one that is
// removed no replay brings any more, but for what is on its way already. With its
// first topics the connection gets an id to come back with, as it would at its
// opening. After an error, ErrNotOpen or
// topics.ErrTooManyTopics, nothing has changed.
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
		m = c.newMember()
	}
	id, err := m.Change(add, remove, c.gw.cfg.MaxTopics)
	if err != nil {
		return nil, err
	}
	if len(remove) > 0 {
		c.pruneLocked(m)
	}
	if x.member == nil && m.Len() > 0 {
		x.member = m
		c.appendLocked(outbox.Item{Frame: frame.Block(sse.AppendID(nil, id)), Kept: true})
	}
	return m.Names(), nil
}

// ErrNotOpen is returned for a connection that is not open, and so cannot be changed.
var ErrNotOpen = errors.New("the connection is not open")
