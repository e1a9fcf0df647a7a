package cluster

import (
	"context"

	"ssegateway/internal/broker"
)

// hasGoneBack reports whether a node's key in the store is older than this node has seen it: the
// broker came back with an earlier state of the store. It looks twice, since a server of the broker
// that has just become the leader may not have caught up yet.
func (n *Node) hasGoneBack(ctx context.Context, store broker.Nodes, number uint32, revision uint64) bool {
	for again := false; ; again = true {
		k, err := store.Get(ctx, number)
		switch {
		case err != nil || k.Revision >= revision:
			return false
		case again:
			n.cfg.Log.Warn("the store of the nodes has gone back to an earlier state", "node", nameOf("", number), "revision", k.Revision, "was", revision)
			return true
		}
		wait(ctx, renewRepeat)
	}
}
