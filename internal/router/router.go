// Package router makes the connections of all nodes of a cluster look like those of one node.
// It forwards operations to the node that holds the connection, and answers the requests of
// other nodes. It does not know HTTP. The messages between nodes are in message.go.
package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"ssegateway/internal/cluster"
	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
	"ssegateway/internal/logging"
)

// deadline bounds how long another node may take to answer.
const deadline = 2 * time.Second

// Nodes are the nodes of a cluster. *cluster.Node implements it.
type Nodes interface {
	// Peers returns the other nodes that are alive, in the order of their names.
	Peers() []cluster.Peer
	// MaxMessage returns how many bytes a message or an answer may have; 0: unknown.
	MaxMessage() int
	// Made reports whether this node made a token.
	Made(token gateway.Token) bool
	// Ask sends a message to the node of a token and returns the answer. message gets the newest version that the node understands.
	// If message fails nothing is sent, and Ask returns its error.
	Ask(ctx context.Context, token gateway.Token, message func(version int) ([]byte, error)) ([]byte, error)
	// AskPeer sends a message to a node and returns the answer.
	AskPeer(ctx context.Context, p cluster.Peer, message []byte) ([]byte, error)
}

// Router implements [connections.Connections] for all nodes. It is safe for concurrent use.
type Router struct {
	own      *connections.Own
	nodes    Nodes
	log      *slog.Logger
	expected sync.Map // ref of another node's record to *topics.Delivery
	streams  streams
	strange  *logging.Throttle // lines about versions
	large    *logging.Throttle // lines about answers
}

// New makes a Router. Its Answer has to be called for each request of another node.
func New(own *connections.Own, nodes Nodes, log *slog.Logger) *Router {
	return &Router{own: own, nodes: nodes, log: log, strange: logging.Every(time.Minute), large: logging.Every(time.Minute)}
}

var _ connections.Connections = (*Router)(nil)

// errOwn means that no other node holds the connection: it is here, or known not to exist.
var errOwn = errors.New("not another node's")

// forward sends a request to the node that holds a connection, and returns its answer. An error
// in the answer is returned as err. It returns errOwn if no other node holds the connection.
func (r *Router) forward(ctx context.Context, token gateway.Token, q nodeRequest, patience time.Duration) (a nodeAnswer, err error) {
	if token == (gateway.Token{}) || r.own.Holds(token) {
		return a, errOwn
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var version int
	message, err := r.nodes.Ask(ctx, token, func(v int) ([]byte, error) {
		if version = v; v < withKeys && q.hasKeys() {
			return nil, errNoKeys
		}
		return q.encode(v), nil
	})
	if err == nil {
		a, err = q.decodeAnswer(version, message)
	}
	if err == nil {
		err = a.failure()
	}
	return a, r.failure(err, token.Node())
}

// failure translates an error of a request to another node, or of its answer.
func (r *Router) failure(err error, node uint32) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, cluster.ErrGone):
		return errOwn
	case errors.Is(err, errVersion):
		r.strange.Log(r.log, slog.LevelWarn, "a node and this one do not understand each other: their versions are too far apart; it counts as unreachable",
			slog.String("number", fmt.Sprintf("%08x", node)), slog.Int("version", Version))
		return err
	case errors.Is(err, errNoKeys):
		r.strange.Log(r.log, slog.LevelWarn, "a send with an idempotency key was refused: the node of its connection has an older version, which would carry out repeats; upgrade that node",
			slog.String("number", fmt.Sprintf("%08x", node)), slog.Int("version", Version))
		return err
	case errors.Is(err, cluster.ErrUnreachable):
		r.log.Debug("another node was not reached", "error", err.Error())
		return fmt.Errorf("%w: %w", connections.ErrUnreachable, err)
	default:
		return err
	}
}

// askPeer sends a request to a node and returns its answer. An error in the answer is returned as err.
func (r *Router) askPeer(ctx context.Context, p cluster.Peer, q nodeRequest) (a nodeAnswer, err error) {
	message, err := r.nodes.AskPeer(ctx, p, q.encode(p.Version))
	if err == nil {
		a, err = q.decodeAnswer(p.Version, message)
	}
	if err == nil {
		err = a.failure()
	}
	return a, r.failure(err, p.Number)
}

// askAll asks nodes concurrently. It returns the answers by node number, and the names of the
// nodes that gave none.
func (r *Router) askAll(ctx context.Context, peers []cluster.Peer, q nodeRequest) (answers map[uint32]nodeAnswer, unreachable []string) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	all := make([]*nodeAnswer, len(peers))
	var group sync.WaitGroup
	for i, p := range peers {
		group.Go(func() {
			defer guard.Recover()
			if a, err := r.askPeer(ctx, p, q); err == nil {
				all[i] = &a
			}
		})
	}
	group.Wait()
	answers = map[uint32]nodeAnswer{}
	for i, p := range peers {
		if all[i] == nil {
			unreachable = append(unreachable, p.Name)
		} else {
			answers[p.Number] = *all[i]
		}
	}
	return answers, unreachable
}

// SendNow implements [connections.Connections].
func (r *Router) SendNow(ctx context.Context, s connections.Send) (connections.Outcome, error) {
	if !r.isOwn(s.Token) {
		return 0, connections.ErrWouldWait
	}
	return r.own.SendNow(ctx, s)
}

// Send implements [connections.Connections].
func (r *Router) Send(ctx context.Context, s connections.Send) (connections.Outcome, error) {
	a, err := r.forward(ctx, s.Token, nodeRequest{Send: []sendRequest{encodeSend(s)}}, patience(s))
	if errors.Is(err, errOwn) {
		return r.own.Send(ctx, s)
	}
	if err != nil {
		return 0, err
	}
	return a.sent(0)
}

// patience returns how long a node may take to answer a send.
func patience(s connections.Send) time.Duration {
	if s.Wait {
		return deadline + connections.WrittenDeadline
	}
	return deadline
}

// Close implements [connections.Connections].
func (r *Router) Close(ctx context.Context, token gateway.Token) (connections.Outcome, error) {
	a, err := r.forward(ctx, token, nodeRequest{Close: token.String()}, deadline)
	if errors.Is(err, errOwn) {
		return r.own.Close(ctx, token)
	}
	if err != nil {
		return 0, err
	}
	return a.sent(0)
}

// Describe implements [connections.Connections].
func (r *Router) Describe(ctx context.Context, token gateway.Token) (connections.Info, error) {
	i, more, err := r.describe(ctx, token, "")
	if errors.Is(err, errOwn) {
		return r.own.Describe(ctx, token)
	}
	if err == nil && more {
		i.Topics, err = r.moreTopics(ctx, token, i.Topics)
	}
	return i, err
}

// describe describes a connection of another node, with the topics after the given one. more
// is set if not all of those fit into a message.
func (r *Router) describe(ctx context.Context, token gateway.Token, after string) (i connections.Info, more bool, err error) {
	a, err := r.forward(ctx, token, nodeRequest{Describe: token.String(), TopicsAfter: after}, deadline)
	if err != nil {
		return i, false, err
	}
	if a.Connection == nil {
		return i, false, errNoAnswer
	}
	i, err = a.Connection.decode()
	return i, a.Connection.MoreTopics, err
}

// moreTopics asks for the rest of a connection's topics. The result may or may not have the
// changes that are made meanwhile.
func (r *Router) moreTopics(ctx context.Context, token gateway.Token, topics []string) ([]string, error) {
	for more := true; more; {
		if len(topics) == 0 {
			return nil, errNoAnswer // an answer with more topics to come has at least one
		}
		after := topics[len(topics)-1]
		i, further, err := r.describe(ctx, token, after)
		if errors.Is(err, errOwn) {
			err = connections.ErrNotFound
		}
		if err == nil && further && (len(i.Topics) == 0 || i.Topics[0] <= after) {
			err = errNoAnswer // else the loop might not end
		}
		if err != nil {
			return nil, err
		}
		topics, more = append(topics, i.Topics...), further
	}
	return topics, nil
}

// Change implements [connections.Connections].
func (r *Router) Change(ctx context.Context, token gateway.Token, add, remove []string) ([]string, error) {
	a, err := r.forward(ctx, token, nodeRequest{Change: &changeRequest{Token: token.String(), Add: add, Remove: remove}}, deadline)
	if errors.Is(err, errOwn) {
		return r.own.Change(ctx, token, add, remove)
	}
	if err == nil && a.MoreTopics {
		return r.moreTopics(ctx, token, a.Topics)
	}
	return a.Topics, err
}

// CloseAll implements [connections.Connections].
func (r *Router) CloseAll(ctx context.Context, f gateway.Filter) (c connections.Closed) {
	answers, unreachable := r.askAll(ctx, r.nodes.Peers(), nodeRequest{CloseAll: &filter{f.Topic, f.Subject}})
	for _, a := range answers {
		c.Count += a.Closed
	}
	c.Count += r.own.CloseAll(ctx, f).Count
	c.Unreachable = unreachable
	return c
}
