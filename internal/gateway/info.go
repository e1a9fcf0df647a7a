package gateway

import (
	"slices"
	"time"
)

// Info describes a connection.
type Info struct {
	Token    Token
	State    State
	Path     string
	Subject  string
	Topics   []string
	Overflow Overflow
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
	if c.queue != nil {
		i.Queued = c.queue.size.Load()
	}
	if x := c.extras; x != nil {
		i.Subject, i.Overflow, i.Drops = x.subject, x.overflow, x.drops
		if x.member != nil {
			i.Topics = x.member.Names()
		}
	}
	return i
}
