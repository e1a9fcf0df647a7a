package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

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

// Ask has the node of a token answer a message, which is made for the version of messages
// that the node understands best. A token of this node is ErrGone: it would have been found here.
func (n *Node) Ask(ctx context.Context, token gateway.Token, message func(version int) []byte) ([]byte, error) {
	number := token.Node()
	store, found := n.find(number)
	dead := found.State == lost || found.State == gone
	if dead && (n.Made(token) || n.Holds()) {
		return nil, ErrGone
	}
	if store == nil {
		n.stats.Unknown.Add(1)
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, errNoStore)
	}
	if found.State == "" || dead { // out of contact, the store may have been lost, and that with it
		var err error
		if found, err = n.confirm(ctx, store, number); err != nil {
			return nil, err
		}
	}
	answer, err := n.ask(ctx, store, number, message(found.Version))
	if errors.Is(err, broker.ErrNobody) {
		if _, gone := n.confirm(ctx, store, number); errors.Is(gone, ErrGone) {
			return nil, gone // it has left just now
		}
	}
	return answer, err
}

// Made reports whether the token has this node's number.
func (n *Node) Made(token gateway.Token) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.isOwnLocked(token.Node())
}

// MaxMessage is the most bytes that a message or an answer may have; 0 where that is not
// known, since there is no store.
func (n *Node) MaxMessage() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.store == nil {
		return 0
	}
	return n.store.MaxMessage()
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

// isOwnLocked reports whether a number is, or was until this node left, its own. One that it has
// only drawn may be another node's.
func (n *Node) isOwnLocked(number uint32) bool {
	return number == n.number && (n.claimed || n.retired)
}

// find is what is known here of a node; nothing of one that was not seen.
func (n *Node) find(number uint32) (store broker.Nodes, found value) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.isOwnLocked(number) {
		return n.store, value{State: gone}
	}
	return n.store, n.keys[number].value
}

// confirm asks the store about a node that may be gone, or new.
func (n *Node) confirm(ctx context.Context, store broker.Nodes, number uint32) (value, error) {
	k, err := store.Get(ctx, number)
	if err != nil {
		n.stats.Unknown.Add(1)
		return value{}, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	found, _ := decode(k.Value)
	switch _, known := n.find(number); {
	case found.State == live:
		return found, nil
	case k.Revision == 0 && (known.State == live || store.Age() < n.cfg.Lease):
		// The store may be another than the node knew, and the node be about to learn that.
		n.stats.Unknown.Add(1)
		return value{}, fmt.Errorf("%w: the store of the nodes was made anew", ErrUnreachable)
	}
	n.onGoneKey(store, k, found)
	return value{}, ErrGone
}

// onGoneKey takes note of a key that says that its node is gone, before the watch has come to
// it: should the store be lost meanwhile, the node stays gone.
func (n *Node) onGoneKey(store broker.Nodes, k broker.Key, v value) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.store == store && k.Revision > 0 {
		n.onKeyLocked(k.Node, key{value: v, revision: k.Revision, seen: time.Now()})
	}
}
