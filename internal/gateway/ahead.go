package gateway

import (
	"time"

	"ssegateway/internal/outbox"
)

// aheadPatience is how long this node may take to read what a client has from another node.
const aheadPatience = 10 * time.Second

// giveUp sends a gap to a client that is still ahead of this node.
func (c *Conn) giveUp() {
	c.mu.Lock()
	defer c.unlock()
	if c.state != Open {
		return
	}
	gap, then, late := c.extras.member.GiveUp()
	if late {
		c.appendLocked(outbox.Item{Frame: gap, Kept: true})
	}
	if then != nil {
		c.replayLocked(then)
	}
}
