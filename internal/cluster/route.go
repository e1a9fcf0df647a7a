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
	// ErrGone: no node has the token's number, or the one that had it is gone for good.
	ErrGone = errors.New("the token's node is gone")
	// ErrUnreachable: the token's node did not answer. It may have received the message.
	ErrUnreachable = errors.New("the token's node cannot be reached")
	// ErrTooLarge: the message is larger than the broker takes. The error names the sizes.
	ErrTooLarge = broker.ErrTooLarge
)

// Ask has the node of a token answer a message. message is called with the newest version that the
// node understands; if it fails Ask returns its error, and nothing is sent. For a token of this node Ask returns ErrGone, since the caller would have found
// the connection.
func (n *Node) Ask(ctx context.Context, token gateway.Token, message func(version int) ([]byte, error)) ([]byte, error) {
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
	if found.State == "" || dead { // out of contact, this node does not know whether the store was lost
		var err error
		if found, err = n.confirm(ctx, store, number); err != nil {
			return nil, err
		}
	}
	question, err := message(found.Version)
	if err != nil {
		return nil, err
	}
	answer, err := n.ask(ctx, store, number, question)
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

// MaxMessage returns the largest size of a message or an answer in bytes, or 0 if it is not known
// because there is no store.
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

// find returns what is known of a node here; the value is empty for one that was not seen.
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
		// The node may have been on an earlier store, and be about to learn of this one.
		n.stats.Unknown.Add(1)
		return value{}, fmt.Errorf("%w: the store of the nodes was made anew", ErrUnreachable)
	}
	n.onGoneKey(store, k, found)
	return value{}, ErrGone
}

// onGoneKey records a key that shows that its node is gone, before the watch has reached it. So the
// node stays gone even if the store is lost meanwhile.
func (n *Node) onGoneKey(store broker.Nodes, k broker.Key, v value) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.store == store && k.Revision > 0 {
		n.onKeyLocked(k.Node, key{value: v, revision: k.Revision, seen: time.Now()})
	}
}
