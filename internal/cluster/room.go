package cluster

import (
	"context"
	"log/slog"
	"time"

	"ssegateway/internal/broker"
)

// Full says that the store has only the room that is kept for keys and for taking over. New
// records wait until there is more: so leases hold, ends are told, and records go.
func (n *Node) Full() bool {
	n.mu.Lock()
	store := n.store
	n.mu.Unlock()
	return store != nil && store.Full()
}

// refuse takes note of a connection that is not taken.
func (n *Node) refuse(reason string) {
	refused := n.stats.Refused.Add(1)
	n.refusing.Log(n.cfg.Log, slog.LevelWarn, "new streams are told to come back later", slog.String("reason", reason),
		slog.Int64("bytes", n.Held()), slog.Int64("bound", n.cfg.HeldBytes), slog.Uint64("refused", refused))
}

// reserve keeps room for keys in a store, and looks for more while it is full, until ctx ends.
func (n *Node) reserve(ctx context.Context, store broker.Nodes) {
	tick := time.NewTicker(n.interval())
	defer tick.Stop()
	for kept := false; ; {
		if !kept || store.Full() {
			trying, cancel := context.WithTimeout(ctx, n.setTimeout())
			kept = store.Reserve(trying) == nil
			cancel()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
