package gateway

import (
	"time"

	"ssegateway/internal/outbox"
)

// aheadPatience is how long a node may take to read what a client has from another one.
const aheadPatience = 10 * time.Second

// giveUp tells a client that is still ahead of this node of a gap.
func (c *Conn) giveUp() {
	c.mu.Lock()
	defer c.unlock()
	if c.state != Open {
		return
	}
	if gap, late := c.extras.member.GiveUp(); late {
		c.appendLocked(outbox.Item{Frame: gap, Kept: true})
	}
}
