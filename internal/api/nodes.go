package api

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"ssegateway/internal/cluster"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
	"ssegateway/internal/topics"
)

// nodeName is how this node is named in answers.
func (a *API) nodeName() string {
	if a.nodes == nil {
		return a.node
	}
	return a.nodes.Name()
}

// listing is a page of the list of connections.
type listing struct {
	Connections []connection `json:"connections"`
	Next        string       `json:"next_cursor,omitempty"`
	Unreachable []string     `json:"unreachable_nodes,omitempty"`
}

// A page has about so many bytes at most, or one connection. One that goes to another
// node has half of what NATS takes in a message by default.
const (
	pageBytes     = 4 << 20
	nodePageBytes = 512 << 10
)

// page lists this node's connections that fit.
func (a *API) page(filter gateway.Filter, after gateway.Token, limit, most int) listing {
	p := listing{Connections: []connection{}}
	list := a.gw.List(filter, after, limit+1)
	size := 0
	for i, c := range list {
		var info gateway.Info
		if i < limit {
			info = c.Info()
			size += 500 + len(info.Path) + len(info.Subject)
			for _, t := range info.Topics {
				size += len(t) + 3
			}
		}
		if i == limit || i > 0 && size > most {
			p.Next = list[i-1].Token().String() // there is more behind it
			break
		}
		if info.State != gateway.Closed { // meanwhile
			p.Connections = append(p.Connections, a.show(info))
		}
	}
	return p
}

// mergePages makes one page of this node's and the others'.
func (a *API) mergePages(r *http.Request, own listing, limit int) listing {
	peers := a.nodes.Peers()
	bodies, unreachable := a.askAll(r.Context(), peers, question{method: r.Method, target: r.RequestURI})
	pages := []listing{own}
	for _, p := range peers {
		var other listing
		if body, ok := bodies[p.Number]; ok && json.Unmarshal(body, &other) == nil {
			pages = append(pages, other)
		} else if ok {
			unreachable = append(unreachable, p.Name)
		}
	}
	return merge(pages, limit, unreachable)
}

// merge keeps the order of the tokens. Behind the last token of a page that is not the
// last of its node, nothing of other pages may be shown yet.
func merge(pages []listing, limit int, unreachable []string) listing {
	horizon := ""
	all := []connection{}
	for _, p := range pages {
		if p.Next != "" && (horizon == "" || p.Next < horizon) {
			horizon = p.Next
		}
		all = append(all, p.Connections...)
	}
	slices.SortFunc(all, func(x, y connection) int { return strings.Compare(x.Token, y.Token) })
	more := horizon != ""
	if more {
		all = slices.DeleteFunc(all, func(c connection) bool { return c.Token > horizon })
	}
	if len(all) > limit {
		all, more = all[:limit], true
	}
	merged := listing{Connections: all, Unreachable: unreachable}
	switch {
	case more && len(all) > 0:
		merged.Next = all[len(all)-1].Token
	case more: // all of them have closed meanwhile
		merged.Next = horizon
	}
	return merged
}

// closing says how many connections were closed.
type closing struct {
	Closed      int      `json:"closed"`
	Unreachable []string `json:"unreachable_nodes,omitempty"`
}

// closeAll closes the connections of all nodes that fit.
func (a *API) closeAll(w http.ResponseWriter, r *http.Request, filter gateway.Filter) {
	var c closing
	if a.among(r.Context()) {
		var bodies map[uint32][]byte
		bodies, c.Unreachable = a.askAll(r.Context(), a.nodes.Peers(), question{method: r.Method, target: r.RequestURI})
		for _, body := range bodies {
			var other closing
			_ = json.Unmarshal(body, &other) // it is our own
			c.Closed += other.Closed
		}
	}
	c.Closed += a.gw.CloseAll(filter)
	writeValue(w, c)
}

// counts are what a node, or a cluster, has and has done.
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

func (c *counts) add(other counts) {
	c.Connections.Pending += other.Connections.Pending
	c.Connections.Open += other.Connections.Open
	c.Opened += other.Opened
	c.Events += other.Events
	c.Bytes += other.Bytes
	c.Queued += other.Queued
	c.Dropped += other.Dropped
}

// statistics are a node's, and in a cluster those of all.
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

// totals are those of the nodes that are named.
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
	s, log := a.gw.Stats(), a.topics.Log()
	v := statistics{Node: a.nodeName(), Log: extent{log.Epoch, log.Oldest, log.Last, log.Bytes, log.Events}}
	v.Connections.Pending, v.Connections.Open = s.Pending.Load(), s.Open.Load()
	v.Opened, v.Events, v.Bytes = s.Opened.Load(), s.Events.Load(), s.Bytes.Load()
	v.Queued, v.Dropped = a.gw.QueuedBytes(), s.Dropped.Load()
	if a.among(r.Context()) {
		all := &totals{Nodes: []string{v.Node}, counts: v.counts}
		var bodies map[uint32][]byte
		bodies, all.Unreachable = a.askAll(r.Context(), a.nodes.Peers(), question{method: r.Method, target: r.RequestURI})
		for _, body := range bodies {
			var other statistics
			_ = json.Unmarshal(body, &other) // it is our own
			all.Nodes = append(all.Nodes, other.Node)
			all.add(other.counts)
		}
		slices.Sort(all.Nodes)
		v.Cluster = all
	}
	writeValue(w, v)
}

// nodeOps are targets that only nodes ask each other, never served over HTTP.
const nodeOps = "node:"

const (
	opExpect = "expect" // a record with that ref is about to be published
	opCount  = "count"  // how many connections it went to
	opStream = "stream" // see remote.go
)

// serveNode serves what only nodes ask each other.
func (a *API) serveNode(w http.ResponseWriter, r *http.Request, op string) {
	op, query, _ := strings.Cut(op, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		errQuery.Write(w)
		return
	}
	ref, _ := strconv.ParseUint(values.Get("ref"), 10, 64)
	switch op {
	case opExpect:
		d := a.topics.Expect(ref)
		a.expected.Store(ref, d)
		time.AfterFunc(expectFor, func() {
			defer guard.Recover()
			a.expected.Delete(ref)
			d.Forget()
		})
		writeValue(w, true)
	case opCount:
		d, ok := a.expected.Load(ref)
		if !ok {
			errUnknownOp.Write(w)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), nodeDeadline)
		defer cancel()
		receivers, all := d.(*topics.Delivery).Wait(ctx) //nolint:forcetypeassert // there is nothing else
		if !all {
			errNode.Write(w) // too late
			return
		}
		writeValue(w, receivers)
	case opStream:
		a.serveRemote(w, r, values)
	default:
		errUnknownOp.Write(w)
	}
}

// expectFor is how long a node remembers that it is to count the receivers of a record.
const expectFor = 4 * nodeDeadline

// counting counts the receivers of a record on the other nodes.
type counting struct {
	api         *API
	ref         string
	peers       []cluster.Peer
	unreachable []string
}

// expectAll has the other nodes count the receivers of a record that is published next.
func (a *API) expectAll(ctx context.Context, ref uint64) *counting {
	c := &counting{api: a, ref: strconv.FormatUint(ref, 10)}
	peers := a.nodes.Peers()
	bodies, unreachable := a.askAll(ctx, peers, question{target: nodeOps + opExpect + "?ref=" + c.ref})
	c.unreachable = unreachable
	for _, p := range peers {
		if bodies[p.Number] != nil {
			c.peers = append(c.peers, p)
		}
	}
	return c
}

// count is how many connections of other nodes the record went to.
func (c *counting) count(ctx context.Context) (receivers int, unreachable []string) {
	bodies, unreachable := c.api.askAll(ctx, c.peers, question{target: nodeOps + opCount + "?ref=" + c.ref})
	for _, body := range bodies {
		n, _ := strconv.Atoi(string(body)) // it is our own
		receivers += n
	}
	return receivers, append(c.unreachable, unreachable...)
}
