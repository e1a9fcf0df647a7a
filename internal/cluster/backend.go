package cluster

import (
	"context"
	"errors"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/gateway"
)

// backend writes a record of each connection before it asks the backend about it. So if this node
// dies, another one reports the end of every connection that the backend knows.
type backend struct {
	Teller

	node *Node
}

// Backend returns the backend of a gateway, which reports through t. Only a node that has one
// reports ends of other nodes' connections.
func (n *Node) Backend(t Teller) gateway.Backend {
	n.teller = t
	return &backend{t, n}
}

// Connect implements gateway.Backend.
func (b *backend) Connect(ctx, client context.Context, token gateway.Token, request []byte) gateway.Answer {
	certain := b.node.certainUntil(token.Node())
	if err := b.hold(ctx, client, token, request); errors.Is(err, broker.ErrFull) { // after any other error it is written later
		b.node.ledger.drop(token)
		b.node.refuse("the broker's storage is full")
		return gateway.Answer{Outcome: gateway.Unasked}
	}
	answer := b.Teller.Connect(ctx, client, token, request)
	if answer.Known() { // its end will be reported
		b.node.asked(token, certain)
	} else {
		b.node.ledger.release(token.Node(), token, nil)
	}
	return answer
}

// hold writes the record of a connection, unless its client leaves first.
func (b *backend) hold(ctx, client context.Context, token gateway.Token, request []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(client, cancel)()
	return b.node.ledger.hold(ctx, token.Node(), token, request, false)
}

// asked records that the backend knows a connection. certain is until when the lease held for
// certain when the record was written. If others may have taken the number since then, they may
// have found the record, and reported the end before the backend was asked.
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

// certainUntil returns until when the lease on a number holds, or held, for certain. It returns
// zero if the number is not this node's any more, or is not claimed on this store yet.
func (n *Node) certainUntil(number uint32) time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.claimed || number != n.number {
		return time.Time{}
	}
	return n.certain
}
