package router

import (
	"context"
	"slices"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/cluster"
	"ssegateway/internal/connections"
	"ssegateway/internal/guard"
	"ssegateway/internal/topics"
)

// The receivers of a publication on other nodes are counted in two steps. Before it is
// published those nodes are told to expect its record. Afterwards they are asked how many
// connections it went to.

// expectFor is how long a node remembers that it is to count the receivers of a record.
const expectFor = 4 * deadline

// Publish implements [connections.Connections].
func (r *Router) Publish(ctx context.Context, p connections.Publication) (connections.Published, error) {
	return r.publishOnce(ctx, p, nil)
}

// publishOnce is publish, unless p is a repeat of what this node remembers.
func (r *Router) publishOnce(ctx context.Context, p connections.Publication, silent map[uint32]error) (connections.Published, error) {
	if p.IdempotencyKey == "" {
		return r.publish(ctx, p, silent)
	}
	return r.own.PublishOnce(ctx, p, func() (connections.Published, error) { return r.publish(ctx, p, silent) })
}

// Position implements [connections.Connections].
func (r *Router) Position(ctx context.Context) broker.Position { return r.own.Position(ctx) }

// Retained implements [connections.Connections]. Every node has all of them.
func (r *Router) Retained(q connections.RetainedQuery) connections.RetainedPage {
	return r.own.Retained(q)
}

// Remove implements [connections.Connections]. Every node reads it from the log.
func (r *Router) Remove(ctx context.Context, topic, key string) (removed int, err error) {
	return r.own.Remove(ctx, topic, key)
}

// publish is Publish, but does not ask the nodes in silent. If silent is not nil, it adds the
// nodes that do not answer.
func (r *Router) publish(ctx context.Context, p connections.Publication, silent map[uint32]error) (connections.Published, error) {
	d := r.own.Expect(0)
	defer d.Forget()
	var counting []cluster.Peer // nodes that count their receivers
	var unreachable []string
	if p.All {
		for _, peer := range r.nodes.Peers() {
			if silent[peer.Number] == nil {
				counting = append(counting, peer)
			} else {
				unreachable = append(unreachable, peer.Name)
			}
		}
		var others []string
		counting, others = r.expectAll(ctx, counting, d.Ref(), silent)
		unreachable = append(unreachable, others...)
	}
	done, err := r.own.PublishAs(ctx, d, p)
	if err != nil || done.Duplicate || !p.All {
		return done, err
	}
	answers, others := r.askAll(ctx, counting, nodeRequest{Count: d.Ref()})
	for _, a := range answers {
		done.Receivers += a.Receivers
	}
	done.Unreachable = append(unreachable, others...)
	slices.Sort(done.Unreachable)
	return done, nil
}

// expectAll asks nodes to expect a record, and returns those that confirmed it.
func (r *Router) expectAll(ctx context.Context, peers []cluster.Peer, ref uint64, silent map[uint32]error) (counting []cluster.Peer, unreachable []string) {
	answers, unreachable := r.askAll(ctx, peers, nodeRequest{Expect: ref})
	for _, peer := range peers {
		if _, ok := answers[peer.Number]; ok {
			counting = append(counting, peer)
		} else if silent != nil {
			silent[peer.Number] = connections.ErrUnreachable
		}
	}
	return counting, unreachable
}

// expect begins to count the receivers of a record that another node is about to publish.
func (r *Router) expect(ref uint64) nodeAnswer {
	d := r.own.Expect(ref)
	r.expected.Store(ref, d)
	time.AfterFunc(expectFor, func() {
		defer guard.Recover()
		r.expected.Delete(ref)
		d.Forget()
	})
	return nodeAnswer{}
}

// count waits until this node has delivered an expected record, and answers how many receivers it had.
func (r *Router) count(ctx context.Context, ref uint64) nodeAnswer {
	d, ok := r.expected.Load(ref)
	if !ok {
		return failed(errUnknown)
	}
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	receivers, all := d.(*topics.Delivery).Count(ctx) //nolint:forcetypeassert // the map has no other type
	if !all {
		return failed(connections.ErrUnreachable) // too late
	}
	return nodeAnswer{Receivers: receivers}
}
