package api

import (
	"net/http"

	"ssegateway/internal/connections"
)

// counts are the gauges and counters of a node, or their sums over a cluster.
type counts struct {
	Connections struct {
		Pending int64 `json:"pending"`
		Open    int64 `json:"open"`
	} `json:"connections"`
	Opened  uint64 `json:"streams_opened"`
	Events  uint64 `json:"events_written"`
	Bytes   uint64 `json:"bytes_written"`
	Queued  int64  `json:"bytes_queued"`
	Dropped uint64 `json:"events_dropped"`
}

func showCounts(from connections.Counts) (c counts) {
	c.Connections.Pending, c.Connections.Open = from.Pending, from.Open
	c.Opened, c.Events, c.Bytes = from.Opened, from.Events, from.Bytes
	c.Queued, c.Dropped = from.Queued, from.EventsDropped
	return c
}

// statistics are those of a node, and in a cluster also the sums over all nodes.
type statistics struct {
	Node string `json:"node"`
	counts
	Log     extent  `json:"log"`
	Cluster *totals `json:"cluster,omitempty"`
}

type extent struct {
	Epoch  string `json:"epoch"`
	Oldest uint64 `json:"oldest"`
	Last   uint64 `json:"last"`
	Bytes  int64  `json:"bytes"`
	Events int64  `json:"events"`
}

// totals are the sums over Nodes.
type totals struct {
	Nodes       []string `json:"nodes"`
	Unreachable []string `json:"unreachable_nodes,omitempty"`
	counts
}

// stats serves GET /internal/stats.
func (a *API) stats(w http.ResponseWriter, r *http.Request) {
	if !Allow(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	s := a.conns.Statistics(r.Context())
	v := statistics{Node: s.Node, counts: showCounts(s.Counts), Log: extent{s.Log.Epoch, s.Log.Oldest, s.Log.Last, s.Log.Bytes, s.Log.Events}}
	if s.Cluster != nil {
		v.Cluster = &totals{s.Cluster.Nodes, s.Cluster.Unreachable, showCounts(s.Cluster.Counts)}
	}
	writeValue(w, v)
}
