package gateway

import (
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/frame"
	"ssegateway/internal/outbox"
)

// aheadPatience is how long a node may take to read what a client has from another one.
const aheadPatience = 10 * time.Second

// giveUp ends the wait of a member for this node to read what its client has, and returns
// the gap by which the client learns that it goes on from where the node is. There is none
// if the node has read so far.
func (s *shard) giveUp(m *member) (gap frame.Frame, late bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	had := broker.Position{Epoch: m.log.Epoch(), Offset: m.after}
	if len(m.topics) == 0 {
		m.log = s.log // as it has none it was not taken along
	}
	reached := m.log.Stats().Last
	if reached >= had.Offset && m.log.Epoch() == had.Epoch {
		return gap, false
	}
	if m.log == s.log {
		reached = s.position
	}
	m.after = reached
	return gapFrame(had.String(), idOf(m.log, reached)), true
}

// giveUp tells a client that is still ahead of this node of a gap.
func (c *Conn) giveUp() {
	c.mu.Lock()
	defer c.unlock()
	if c.state != Open {
		return
	}
	if gap, late := c.gw.topics.of(c).giveUp(c.extras.member); late {
		c.appendLocked(outbox.Item{Frame: gap, Kept: true})
	}
}
