package cluster

import (
	"context"
	"log/slog"
	"time"

	"ssegateway/internal/broker"
)

// Full reports whether the store has only the room that is reserved for keys and for taking over.
// New records wait until there is more. So leases hold, ends are reported, and records are removed.
func (n *Node) Full() bool {
	n.mu.Lock()
	store := n.store
	n.mu.Unlock()
	return store != nil && store.Full()
}

// refuse counts and logs a connection that is refused.
func (n *Node) refuse(reason string) {
	refused := n.stats.Refused.Add(1)
	n.refusing.Log(n.cfg.Log, slog.LevelWarn, "new streams are told to come back later", slog.String("reason", reason),
		slog.Int64("bytes", n.Held()), slog.Int64("bound", n.cfg.HeldBytes), slog.Uint64("refused", refused))
}

// reserve reserves room for keys in a store, and looks for more while it is full, until ctx ends.
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
