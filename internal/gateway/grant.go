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

// Grant is what the backend said about a connection when it accepted it. The zero Grant is that of
// an answer without content.
type Grant struct {
	Topics   []string    // the connection receives what is published on these
	Subject  string      // of the connection
	Events   []sse.Event // written first
	Retry    sse.Retry   // for the start of the stream
	MaxAge   time.Duration
	Overflow outbox.Overflow

	// Beginning says where in the log the topics begin. Its LastEventID is in UTF-8.
	topics.Beginning
}

// extras is what only some connections have. It is guarded by the connection's lock, and stays once
// it exists.
type extras struct {
	subject  string
	next     *Conn // with the same subject, and the one before; guarded by the lock of subjects
	previous *Conn
	overflow outbox.Overflow
	drops    uint64
	member   *topics.Member // nil without topics
	age      *time.Timer    // closes the connection; nil: there is no maximum age
	ahead    *time.Timer    // ends the wait for what the client has from another node; nil: it was not ahead
	stop     func()         // of a relayed request: ends the backend's; nil: none
	reader   *reader        // of an answer; nil: it is no relayed stream
	modest   bool           // of a relayed request: no answer is given up to make room for it
	cut      bool           // a relayed stream ends by a cut, behind what waits
	gone     chan struct{}  // closed when the connection closes; nil: nobody waits
}

func (c *Conn) extrasLocked() *extras {
	if c.extras == nil {
		c.extras = &extras{}
	}
	return c.extras
}

// grantLocked applies the grant to the connection, including its topics. It returns what the stream
// begins with, and the replay that follows; each may be empty.
func (c *Conn) grantLocked(g Grant) (opening frame.Frame, missed *topics.Replay) {
	var frames []frame.Frame
	if g.Subject != "" || g.Overflow != outbox.Disconnect || g.MaxAge > 0 || len(g.Topics) > 0 {
		x := c.extrasLocked()
		x.subject, x.overflow = strings.Clone(g.Subject), g.Overflow
		if x.subject != "" {
			c.gw.subjects.add(c)
		}
		if g.MaxAge > 0 {
			// Never later, since credentials have to be checked again by then.
			x.age = time.AfterFunc(g.MaxAge-rand.N(g.MaxAge/10+1), c.expire) //nolint:gosec // jitter, not a secret
		}
	}
	if len(g.Topics) > 0 {
		c.extras.member = c.newMember()
		var ahead bool
		frames, missed, ahead = c.extras.member.Welcome(g.Topics, g.Beginning, g.Retry)
		if ahead {
			c.extras.ahead = time.AfterFunc(aheadPatience, c.giveUp)
		}
	} else if g.Retry.IsSet() {
		frames = append(frames, frame.Block(sse.AppendRetry(nil, g.Retry)))
	}
	for _, e := range g.Events {
		frames = append(frames, frame.Event(c.gw.Form(e)))
	}
	if len(frames) == 0 {
		return frame.Frame{}, missed
	}
	return frame.Join(frames), missed
}

func (c *Conn) newMember() *topics.Member {
	var subscriber topics.Subscriber = c
	if c.isTail() {
		subscriber = tail{c}
	}
	return c.gw.cfg.Topics.NewMember(subscriber, c.token[shardByte])
}

// revokeLocked revokes what the connection was granted, as it closes.
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

// expire closes a connection that has reached its maximum age.
func (c *Conn) expire() {
	defer guard.Recover()
	c.mu.Lock()
	defer c.unlock()
	if c.state == Open {
		c.closeLocked(ServerClosed, MaxAge)
	}
}

// Gone returns a channel that is closed when the connection closes.
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

// Change adds topics to an open connection, then removes some, and returns the topics that it has
// afterwards. An added topic brings what is published from now on. A removed topic is left out of
// replays, except for what is on its way already. With its first topics the connection gets an id
// to come back with, as it would when it opens. After an error, ErrNotOpen or
// topics.ErrTooManyTopics, nothing has changed.
func (c *Conn) Change(add, remove []string) (topics []string, err error) {
	topics, err = c.change(add, remove)
	slices.Sort(topics)
	return topics, err
}

func (c *Conn) change(add, remove []string) (topics []string, err error) {
	c.mu.Lock()
	defer c.unlock()
	if c.kind == relayed {
		return nil, ErrRelayed
	}
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
