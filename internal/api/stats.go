package api

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"ssegateway/internal/connections"
	"ssegateway/internal/history"
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
	ByNode []nodeCounts `json:"by_node"`
}

// nodeCounts are the counts of one of Nodes.
type nodeCounts struct {
	Node string `json:"node"`
	counts
}

// stats serves GET /internal/stats.
func (a *API) stats(w http.ResponseWriter, r *http.Request) {
	if !Allow(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	values, problem := queryOf(r)
	if problem == nil && values.Get("history") != "" {
		problem = a.history(w, r, values.Get("history"))
	} else if problem == nil {
		writeValue(w, a.statistics(r))
	}
	if problem != nil {
		problem.Write(w)
	}
}

func (a *API) statistics(r *http.Request) statistics {
	s := a.conns.Statistics(r.Context())
	v := statistics{Node: s.Node, counts: showCounts(s.Counts), Log: extent{s.Log.Epoch, s.Log.Oldest, s.Log.Last, s.Log.Bytes, s.Log.Events}}
	if s.Cluster != nil {
		v.Cluster = &totals{s.Cluster.Nodes, s.Cluster.Unreachable, showCounts(s.Cluster.Counts), nil}
		for _, n := range s.Cluster.ByNode {
			v.Cluster.ByNode = append(v.Cluster.ByNode, nodeCounts{n.Node, showCounts(n.Counts)})
		}
	}
	return v
}

// past is the answer to a request with history.
type past struct {
	Interval int              `json:"interval_seconds"`
	Points   []jsontext.Value `json:"points"`
}

// history serves GET /internal/stats?history=.
func (a *API) history(w http.ResponseWriter, r *http.Request, text string) *Error {
	d, ok := parseHistory(text)
	if !ok {
		return errHistory
	}
	if WantsStream(r) {
		return a.past.Follow(w, r, d)
	}
	v := past{Interval: int(history.Interval / time.Second), Points: []jsontext.Value{}}
	for _, p := range a.past.Points(d) {
		v.Points = append(v.Points, p.JSON())
	}
	writeValue(w, v)
	return nil
}

// parseHistory parses a whole number of minutes or seconds.
func parseHistory(text string) (d time.Duration, ok bool) {
	unit := time.Second
	digits, ok := strings.CutSuffix(text, "s")
	if !ok {
		unit = time.Minute
		digits, ok = strings.CutSuffix(text, "m")
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	d = time.Duration(n) * unit
	return d, ok && err == nil && digits[0] != '0' && d >= history.Interval && d <= history.Length
}

// WantsStream reports whether a request asks for an event stream.
func WantsStream(r *http.Request) bool {
	for _, list := range r.Header["Accept"] {
		for kind := range strings.SplitSeq(list, ",") {
			kind, _, _ = strings.Cut(kind, ";")
			if strings.EqualFold(strings.TrimSpace(kind), "text/event-stream") {
				return true
			}
		}
	}
	return false
}
