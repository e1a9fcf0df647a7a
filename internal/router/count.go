package router

import (
	"context"
	"time"

	"ssegateway/internal/cluster"
	"ssegateway/internal/connections"
	"ssegateway/internal/guard"
	"ssegateway/internal/topics"
)

// The receivers of a publication on other nodes are counted in two steps: those nodes are
// told to expect its record before it is published, and asked how many connections it went
// to when it was.

// expectFor is how long a node remembers that it is to count the receivers of a record.
const expectFor = 4 * deadline

// Publish implements [connections.Connections].
func (r *Router) Publish(ctx context.Context, p connections.Publication) (connections.Published, error) {
	d := r.own.Expect(0)
	defer d.Forget()
	var counting []cluster.Peer // nodes that count
	var unreachable []string
	if p.All {
		peers := r.nodes.Peers()
		answers, others := r.askAll(ctx, peers, nodeRequest{Expect: d.Ref()})
		for _, peer := range peers {
			if _, ok := answers[peer.Number]; ok {
				counting = append(counting, peer)
			}
		}
		unreachable = others
	}
	done, err := r.own.PublishAs(ctx, d, p)
	if err != nil || !p.All {
		return done, err
	}
	answers, others := r.askAll(ctx, counting, nodeRequest{Count: d.Ref()})
	for _, a := range answers {
		done.Receivers += a.Receivers
	}
	done.Unreachable = append(unreachable, others...)
	return done, nil
}

// expect has the receivers of a record counted that another node is about to publish.
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

// count waits until this node has delivered an expected record.
func (r *Router) count(ctx context.Context, ref uint64) nodeAnswer {
	d, ok := r.expected.Load(ref)
	if !ok {
		return failed(errUnknown)
	}
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	receivers, all := d.(*topics.Delivery).Wait(ctx) //nolint:forcetypeassert // there is nothing else
	if !all {
		return failed(connections.ErrUnreachable) // too late
	}
	return nodeAnswer{Receivers: receivers}
}
