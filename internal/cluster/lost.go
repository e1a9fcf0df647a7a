package cluster

import (
	"context"
	"time"

	"ssegateway/internal/broker"
)

// mark is a key that this node writes for another one: mostly to become the node that reports what
// the other held.
type mark struct {
	number   uint32
	revision uint64
	value    value
}

// markExpired marks nodes as lost that have been silent for the length of a lease, if this node was
// in contact with the broker for all of it, and takes over marks of nodes that are lost themselves.
// The first one to write the key wins; the watch shows who it was. On a store that was made anew it
// writes the keys of the nodes that it knows, so that all nodes know them.
func (n *Node) markExpired(ctx context.Context, store broker.Nodes) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.judging:
		}
		for _, m := range n.due(store) {
			setting, cancel := context.WithTimeout(ctx, n.setTimeout())
			_, _ = store.Set(setting, m.number, m.value.encode(), m.revision)
			cancel()
		}
	}
}

func (n *Node) due(store broker.Nodes) (marks []mark) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.teller == nil || !n.claimed || !n.admitted || n.ownSeen.IsZero() {
		return nil
	}
	for number, k := range n.keys {
		silent := n.silentLocked(k)
		switch {
		case number == n.number:
		case k.State == gone && (k.revision > 0 || !n.reportsLocked(number)):
			if time.Since(k.seen) > traceAge {
				delete(n.keys, number)
			}
		case k.State == live && silent,
			k.State == lost && k.By != n.number && n.deadLocked(k.By, silent),
			k.State == lost && k.revision == 0, // its mark was lost with a store
			k.State == gone:                    // the same, and its ends are still being reported
			k.State, k.By = lost, n.number
			marks = append(marks, mark{number, k.revision, k.value})
		case k.State == live && k.revision == 0 && !n.tooOld(store):
			marks = append(marks, mark{number, 0, k.value}) // known from a store that was lost
		}
	}
	return marks
}

// reportsLocked reports whether this node has taken over connections of that number, and their
// ends are not all reported yet.
func (n *Node) reportsLocked(number uint32) bool {
	for token := range n.adopted {
		if token.Node() == number {
			return true
		}
	}
	return false
}

// silentLocked reports whether a node was not heard of for its lease. It counts up to the last own
// renewal that was seen, because silence after that is not known.
func (n *Node) silentLocked(k key) bool {
	return n.ownSeen.Sub(later(k.seen, n.contact)) >= n.leaseOf(k)
}
