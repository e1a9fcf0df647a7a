package callback

import (
	"crypto/sha256"
	"encoding/hex"
	"iter"
	"time"

	"ssegateway/internal/gateway"
)

// A batch is one callback for several disconnects: the first notice, and the others by its more. It waits, is
// tried and is tried again as a whole. So a backend that tells repeats by webhook-id gets the same set under the same id. A batch that the backend has refused for good, or has not taken for giveUpAfter, comes apart: one
// end that it cannot take is not to cost it the others.

const (
	// gatherTime is how long the first end of a batch waits for others.
	gatherTime = 50 * time.Millisecond
	// batchLimit bounds a batch's body, in bytes.
	batchLimit = 1 << 20
)

// members returns the notices of a batch, or the one that is none.
func (n *notice) members() iter.Seq[*notice] {
	return func(yield func(*notice) bool) {
		for n != nil {
			after := n.more // the notice may be in another batch afterwards
			if !yield(n) {
				return
			}
			n = after
		}
	}
}

// size returns how many notices a batch has.
func (n *notice) size() (size int) {
	for range n.members() {
		size++
	}
	return size
}

// gathering is the batch that ends are added to.
type gathering struct {
	first, last *notice
	len, bytes  int
	due         time.Duration // when it is complete at the latest, since the notifier's start
}

// gatherLocked adds a notice to the batch that is being gathered, and readies what is complete. Notices that are not to be
// in one are ready at once.
func (n *notifier) gatherLocked(what *notice) {
	most := n.client.cfg.Batch
	if most <= 1 || what.alone {
		n.ready.push(what)
		return
	}
	what.more, what.attempts = nil, 0
	g, size := &n.gathering, eventSize(&what.Notice)+len(",")
	if g.len > 0 && g.bytes+size > batchLimit {
		n.completeLocked()
	}
	if g.len == 0 {
		g.first, g.due, g.bytes = what, n.now()+gatherTime, len(batchOpen)+len(batchEnd)
	} else {
		g.last.more = what
	}
	g.last = what
	g.len++
	if g.bytes += size; g.len == most {
		n.completeLocked()
	} else if g.len == 1 {
		n.armLocked()
	}
}

// completeLocked readies the batch that is being gathered, if there is one.
func (n *notifier) completeLocked() {
	if n.gathering.len > 0 {
		n.ready.push(n.gathering.first)
		n.gathering = gathering{}
	}
}

// splitLocked makes each notice of a batch ready on its own.
func (n *notifier) splitLocked(batch *notice) {
	for what := range batch.members() {
		what.more, what.alone, what.attempts = nil, true, 0
		n.ready.push(what)
	}
}

// The parts of a batch's body around its events, and of an event around its values.
const (
	batchOpen = `{"action":"disconnects","events":[`
	batchEnd  = `]}`
	idKey     = `{"webhook_id":"`
	reasonKey = `","reason":"`
)

func eventSize(n *gateway.Notice) int {
	size := len(idKey) + idLen + len(tokenKey) + tokenLen + len(reasonKey) + len(n.Reason.String()) + len(requestKey) + len(n.Request) + len(bodyEnd)
	if detail := n.Detail.String(); detail != "" {
		size += len(detailKey) + len(detail)
	}
	return size
}

// appendDisconnects is appendDisconnect for a batch. Its id is made of what it says, so that it names
// this very set, on any node.
func (c *Client) appendDisconnects(dst []byte, batch *notice, more string) []byte {
	sum, size := sha256.New(), len(batchOpen)+len(batchEnd)-len(",")
	for n := range batch.members() {
		sum.Write(n.Token[:])
		sum.Write([]byte(n.Reason.String() + " " + n.Detail.String() + "\n"))
		size += eventSize(&n.Notice) + len(",")
	}
	id := hex.AppendEncode(nil, sum.Sum(nil)[:16])
	dst, at := c.appendHead(dst, append(id, "-"+ActionDisconnects...), size, more)
	body := len(dst)
	dst = append(dst, batchOpen...)
	for n := range batch.members() {
		dst = append(dst, idKey...)
		dst = appendID(dst, n.Token, ActionDisconnect)
		dst = append(dst, tokenKey...)
		dst = appendToken(dst, n.Token)
		dst = append(dst, reasonKey...)
		dst = append(dst, n.Reason.String()...)
		if detail := n.Detail.String(); detail != "" {
			dst = append(dst, detailKey...)
			dst = append(dst, detail...)
		}
		dst = append(dst, requestKey...)
		dst = append(dst, n.Request...)
		dst = append(dst, "},"...)
	}
	dst = append(dst[:len(dst)-len(",")], batchEnd...)
	c.signer.sign(dst, at, body)
	return dst
}
