package cluster

import (
	"context"
	"errors"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/gateway"
)

// backend writes a record of each connection before the backend is asked about it, so
// that nobody's death leaves the backend with a connection that nobody ends.
type backend struct {
	Teller

	node *Node
}

// Backend is a gateway's backend that tells by way of t. Only a node that has it tells
// of other nodes' connections.
func (n *Node) Backend(t Teller) gateway.Backend {
	n.teller = t
	return &backend{t, n}
}

// Connect implements gateway.Backend.
func (b *backend) Connect(ctx, client context.Context, token gateway.Token, request []byte) gateway.Answer {
	certain := b.node.certainUntil(token.Node())
	if err := b.hold(ctx, client, token, request); errors.Is(err, broker.ErrFull) { // else it is written later
		b.node.ledger.drop(token)
		b.node.refuse("the broker's storage is full")
		return gateway.Answer{Outcome: gateway.Unasked}
	}
	answer := b.Teller.Connect(ctx, client, token, request)
	switch answer.Outcome {
	case gateway.Refused, gateway.Unreachable, gateway.Unasked:
		b.node.ledger.release(token.Node(), token, nil)
	case gateway.TimedOut:
		if answer.Unsent {
			b.node.ledger.release(token.Node(), token, nil)
		} else {
			b.node.asked(token, certain)
		}
	case gateway.Accepted, gateway.Unanswered: // it will be told of
		b.node.asked(token, certain)
	}
	return answer
}

// hold writes the record of a connection, unless its client leaves meanwhile.
func (b *backend) hold(ctx, client context.Context, token gateway.Token, request []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(client, cancel)()
	return b.node.ledger.hold(ctx, token.Node(), token, request, false)
}

// asked takes note that the backend knows a connection, given until when the lease held for
// certain when its record was written. If others may have taken the number since then, they
// may have found the record, and told of the end before the backend was asked.
func (n *Node) asked(token gateway.Token, certain time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if token.Node() == n.number && n.holdsLocked() {
		return
	}
	if time.Since(certain) > n.cfg.Lease-n.trust() {
		n.late[token] = struct{}{}
	}
}

// certainUntil is until when the lease on a number holds or held for certain; zero: it is
// not this node's any more, or not yet on this store.
func (n *Node) certainUntil(number uint32) time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.claimed || number != n.number {
		return time.Time{}
	}
	return n.certain
}
