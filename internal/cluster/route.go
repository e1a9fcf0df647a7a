package cluster

import (
	"context"
	"errors"
	"fmt"

	"ssegateway/internal/broker"
	"ssegateway/internal/gateway"
)

// Errors of Ask.
var (
	// ErrGone: the token is no node's, or that of a node that is gone for good.
	ErrGone = errors.New("the token's node is gone")
	// ErrUnreachable: the token's node did not answer. It is unknown whether it got the message.
	ErrUnreachable = errors.New("the token's node cannot be reached")
	// ErrTooLarge: the message is larger than the broker takes. It says the sizes.
	ErrTooLarge = broker.ErrTooLarge
)

// Ask has the node of a token answer a message. A token of this node is ErrGone: it
// would have been found here.
func (n *Node) Ask(ctx context.Context, token gateway.Token, message []byte) ([]byte, error) {
	number := token.Node()
	store, state := n.find(number)
	if state == lost || state == gone {
		return nil, ErrGone
	}
	if store == nil {
		n.stats.Unknown.Add(1)
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, errNoStore)
	}
	if state == "" {
		if err := n.confirm(ctx, store, number); err != nil {
			return nil, err
		}
	}
	answer, err := n.ask(ctx, store, number, message)
	if errors.Is(err, broker.ErrNobody) {
		if gone := n.confirm(ctx, store, number); errors.Is(gone, ErrGone) {
			return nil, gone // it has left just now
		}
	}
	return answer, err
}

// Made says that the token has this node's number.
func (n *Node) Made(token gateway.Token) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return token.Node() == n.number
}

// AskPeer has a node answer a message.
func (n *Node) AskPeer(ctx context.Context, p Peer, message []byte) ([]byte, error) {
	store, _ := n.find(p.Number)
	if store == nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, errNoStore)
	}
	return n.ask(ctx, store, p.Number, message)
}

func (n *Node) ask(ctx context.Context, store broker.Nodes, number uint32, message []byte) ([]byte, error) {
	answer, err := store.Ask(ctx, number, message)
	switch {
	case err == nil:
		n.stats.Relayed.Add(1)
		return answer, nil
	case errors.Is(err, broker.ErrTooLarge):
		return nil, err
	}
	n.stats.Unknown.Add(1)
	return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// find is what is known here of a node; nothing of one that was not seen.
func (n *Node) find(number uint32) (store broker.Nodes, state string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if number == n.number {
		return n.store, gone
	}
	return n.store, n.keys[number].State
}

// confirm asks the store about a node that may be gone, or new.
func (n *Node) confirm(ctx context.Context, store broker.Nodes, number uint32) error {
	k, err := store.Get(ctx, number)
	if err != nil {
		n.stats.Unknown.Add(1)
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	switch _, state := n.find(number); {
	case decode(k.Value).State == live:
		return nil
	case k.Revision == 0 && (state == live || store.Age() < n.cfg.Lease):
		// The store may be another than the node knew, and the node be about to learn that.
		n.stats.Unknown.Add(1)
		return fmt.Errorf("%w: the store of the nodes was made anew", ErrUnreachable)
	}
	return ErrGone
}
