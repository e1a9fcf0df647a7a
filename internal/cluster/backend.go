package cluster

import (
	"context"

	"ssegateway/internal/gateway"
)

// backend writes a record of each connection before the backend is asked about it, so
// that nobody's death leaves the backend with a connection that nobody ends.
type backend struct {
	Teller

	ledger *ledger
}

// Backend is a gateway's backend that tells by way of t. Only a node that has it tells
// of other nodes' connections.
func (n *Node) Backend(t Teller) gateway.Backend {
	n.teller = t
	return &backend{t, &n.ledger}
}

// Connect implements gateway.Backend.
func (b *backend) Connect(ctx context.Context, token gateway.Token, request []byte) gateway.Answer {
	_ = b.ledger.hold(ctx, token.Node(), token, request) // or later
	answer := b.Teller.Connect(ctx, token, request)
	switch answer.Outcome {
	case gateway.Refused, gateway.Unreachable:
		b.ledger.release(token.Node(), token, nil)
	case gateway.TimedOut:
		if answer.Unsent {
			b.ledger.release(token.Node(), token, nil)
		}
	case gateway.Accepted, gateway.Unanswered: // it will be told of
	}
	return answer
}
