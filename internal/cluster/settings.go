package cluster

import (
	"log/slog"
	"slices"
	"time"
)

// differsEvery is how often it is said that another node tells another backend.
const differsEvery = time.Minute

// admit lets the gateway take connections, unless a node that lives tells another backend: the
// ends of what one of them holds would be told to the wrong one. Until then this node takes part
// without saying whom it tells, so it keeps nobody else from starting, and it tells of nobody.
// fresh: it has let it just now.
func (n *Node) admit() (fresh bool) {
	n.mu.Lock()
	if !n.claimed || !n.informed {
		n.mu.Unlock()
		return false
	}
	before, admitted := n.differs, n.admitted
	n.differs = n.otherBackendLocked()
	n.admitted = admitted || n.differs == ""
	differs, number := n.differs, n.number
	fresh = n.admitted && !admitted
	n.mu.Unlock()
	switch {
	case differs != "":
		n.differing.Log(n.cfg.Log, slog.LevelError, "a node of the same NATS_PREFIX has another CALLBACK_URL: give both the same, or this one another NATS_PREFIX; "+
			"to change it node by node set CALLBACK_URL_BEFORE", slog.String("node", differs), slog.Bool("takes_streams", admitted))
	case before != "":
		n.cfg.Log.Info("no node has another CALLBACK_URL any more", "node", before)
	}
	if fresh {
		n.gw.SetNumber(number)
	}
	return fresh
}

// Differs names a node because of whose CALLBACK_URL this one takes no connections; empty: it
// does.
func (n *Node) Differs() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.admitted {
		return ""
	}
	return n.differs
}

// otherBackendLocked is the name of a node that lives and tells another backend; empty: there
// is none.
func (n *Node) otherBackendLocked() string {
	for number, k := range n.keys {
		if number == n.number || k.State != live || n.silentLocked(k) || len(k.Backends) == 0 || len(n.cfg.Backends) == 0 {
			continue
		}
		if !slices.ContainsFunc(n.cfg.Backends, func(b string) bool { return slices.Contains(k.Backends, b) }) {
			return nameOf(k.Name, number)
		}
	}
	return ""
}

// leaseOf is how long a node that is silent counts as alive: its own lease, if that is longer,
// since so long it may trust in it.
func (n *Node) leaseOf(k key) time.Duration {
	return max(n.cfg.Lease, time.Duration(k.LeaseSeconds)*time.Second)
}
