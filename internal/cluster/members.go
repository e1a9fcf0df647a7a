package cluster

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"ssegateway/internal/broker"
)

// watch follows the keys of all nodes, until ctx ends or the store is lost.
func (n *Node) watch(ctx context.Context, store broker.Nodes) {
	for ctx.Err() == nil {
		watching, cancel := context.WithCancel(ctx)
		n.mu.Lock()
		n.rewatch, n.watched = cancel, time.Now()
		n.mu.Unlock()
		back := false
		err := store.Watch(watching, func(k broker.Key) {
			if before := n.onKey(k); k.Revision < before && n.hasGoneBack(watching, store, k.Node, before) {
				back = true
				cancel()
			}
		})
		cancel()
		if back || errors.Is(err, broker.ErrStoreLost) {
			return
		}
		pause(ctx, n.interval()/4)
	}
}

// onKey records a key, and returns the revision that it had before. After an own renewal was seen,
// everything written before it has been seen too.
func (n *Node) onKey(k broker.Key) (revision uint64) {
	v, ok := decode(k.Value)
	next := key{value: v, revision: k.Revision}
	n.mu.Lock()
	next.seen = time.Now()
	revision = n.keys[k.Node].revision
	var before, after value
	var another bool
	if ok {
		before, after, another = n.onKeyLocked(k.Node, next)
	} else {
		n.onGarbledKeyLocked(k.Node, next)
	}
	n.mu.Unlock()
	if !ok {
		n.garbled.Log(n.cfg.Log, slog.LevelWarn, "a node's key on the broker cannot be read, and is passed over",
			slog.String("node", nameOf("", k.Node)), slog.Int("bytes", len(k.Value)))
	}
	if another && after.State != before.State {
		n.logSeen(k.Node, before, after)
	}
	return revision
}

// onGarbledKeyLocked records a key that cannot be read. What is known of the node stays, and it
// counts as silent since then.
func (n *Node) onGarbledKeyLocked(number uint32, next key) {
	known, ok := n.keys[number]
	switch {
	case ok && next.revision <= known.revision:
		return
	case ok && known.State != gone:
		known.revision = next.revision
		next = known
	}
	n.keys[number] = next
}

// onKeyLocked records a key. It returns what another node's key was before, and what it is now.
func (n *Node) onKeyLocked(number uint32, next key) (before, after value, another bool) {
	known, ok := n.keys[number]
	if ok && next.revision <= known.revision {
		return value{}, value{}, false
	}
	switch {
	case next.State == lost && next.By == 0: // it said so itself
	case next.State == live || !ok:
		next.alive = next.seen
	default:
		next.alive = known.alive
	}
	if ok && known.State != live && next.State == live && number != n.number {
		next.State, next.By = lost, 0 // it does not know yet that it is lost
	}
	n.keys[number] = next
	if next.State == gone {
		n.takeBackLocked(number) // others have found all
	}
	if number != n.number || next.Instance != n.instance {
		if next.State == lost {
			signal(n.judging)
		}
		return known.value, next.value, true
	}
	if next.State != live {
		return value{}, value{}, false // the next renewal fails
	}
	if n.ownSeen.IsZero() || next.seen.Sub(n.ownSeen) > n.cfg.Lease/2 {
		n.contact = next.seen
	}
	n.ownSeen, n.ownFrom, n.informed = next.seen, next.revision, true
	signal(n.judging)
	if !n.admitted {
		signal(n.admitting)
	}
	return value{}, value{}, false
}

func (n *Node) logSeen(number uint32, before, next value) {
	name := nameOf(next.Name, number)
	switch next.State {
	case live:
		n.cfg.Log.Info("node seen", "node", name)
	case lost:
		n.cfg.Log.Warn("node lost", "node", name, "told_by", nameOf("", next.By))
	default:
		n.cfg.Log.Info("node gone", "node", nameOf(before.Name, number))
	}
}

// deadLocked reports whether the node that should report what another held is lost itself. A node
// that is not known may only not have been seen yet.
func (n *Node) deadLocked(by uint32, silent bool) bool {
	k, known := n.keys[by]
	return by == 0 || known && k.State != live || !known && silent
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Peer is another node that is alive, as far as this node knows.
type Peer struct {
	Number  uint32
	Name    string
	Version int // the newest of messages that it understands
}

// Peers returns the other nodes that are alive, ordered by name.
func (n *Node) Peers() []Peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	var peers []Peer
	for number, k := range n.keys {
		if k.State == live && number != n.number {
			peers = append(peers, Peer{number, nameOf(k.Name, number), k.Version})
		}
	}
	slices.SortFunc(peers, func(a, b Peer) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return peers
}
