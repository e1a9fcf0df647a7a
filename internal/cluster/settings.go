package cluster

import (
	"log/slog"
	"slices"
	"time"
)

// differsEvery is the least time between two lines about another backend.
const differsEvery = time.Minute

// admit lets the gateway take connections, unless a live node reports to another backend: the ends
// of what one of them holds would be reported to the wrong backend. Until then this node takes part
// without publishing its backend, so it keeps no other node from starting, and it reports no ends
// of other nodes' connections. fresh reports whether the gateway was admitted just now.
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

// Differs returns a node whose CALLBACK_URL keeps this one from taking connections, or the empty
// string if there is none.
func (n *Node) Differs() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.admitted {
		return ""
	}
	return n.differs
}

// otherBackendLocked returns the name of a live node that reports to another backend, or the empty
// string if there is none.
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

// leaseOf returns how long a silent node counts as alive: its own lease if that is longer than this
// node's, since it may trust its lease for that long.
func (n *Node) leaseOf(k key) time.Duration {
	return max(n.cfg.Lease, time.Duration(k.LeaseSeconds)*time.Second)
}
