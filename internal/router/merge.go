package router

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
)

// pageBytes returns about how many bytes a page for another node may have: half of what NATS
// accepts in a message. fit shortens a page that is larger than a message all the same.
func (r *Router) pageBytes() int { return max(r.nodes.MaxMessage()/2, leastPageBytes) }

const leastPageBytes = 16 << 10

// List implements [connections.Connections].
func (r *Router) List(ctx context.Context, q connections.Query) connections.Page {
	pages := []connections.Page{r.own.List(ctx, q)}
	peers := r.nodes.Peers()
	answers, unreachable := r.askAll(ctx, peers, nodeRequest{List: &listRequest{
		Filter: filter{q.Topic, q.Subject}, After: encodeToken(q.After), Limit: q.Limit,
	}})
	for _, p := range peers {
		a, ok := answers[p.Number]
		if !ok {
			continue
		}
		page, err := a.Page.decode()
		for i := 0; err == nil && i < len(page.Connections); i++ {
			if c := &page.Connections[i]; a.Page.Connections[i].MoreTopics {
				c.Topics, err = r.moreTopics(ctx, c.Token, c.Topics)
			}
		}
		if err == nil {
			pages = append(pages, page)
		} else {
			unreachable = append(unreachable, p.Name)
		}
	}
	return merge(pages, q.Limit, unreachable)
}

// merge merges the nodes' pages in the order of the tokens. If a node has more pages, no
// connection after the last token of its page may be shown yet.
func merge(pages []connections.Page, limit int, unreachable []string) connections.Page {
	var horizon gateway.Token
	var all []connections.Info
	more := false
	for _, p := range pages {
		if p.Next != (gateway.Token{}) && (!more || compare(p.Next, horizon) < 0) {
			horizon, more = p.Next, true
		}
		all = append(all, p.Connections...)
	}
	slices.SortFunc(all, func(x, y connections.Info) int { return compare(x.Token, y.Token) })
	if more {
		all = slices.DeleteFunc(all, func(c connections.Info) bool { return compare(c.Token, horizon) > 0 })
	}
	if len(all) > limit {
		all, more = all[:limit], true
	}
	merged := connections.Page{Connections: all, Unreachable: unreachable}
	switch {
	case more && len(all) > 0:
		merged.Next = all[len(all)-1].Token
	case more: // all connections of the page have closed meanwhile
		merged.Next = horizon
	}
	return merged
}

func compare(a, b gateway.Token) int { return bytes.Compare(a[:], b[:]) }

// Statistics implements [connections.Connections].
func (r *Router) Statistics(ctx context.Context) connections.Statistics {
	s := r.own.Statistics(ctx)
	peers := r.nodes.Peers()
	answers, unreachable := r.askAll(ctx, peers, nodeRequest{Statistics: true})
	all := &connections.Totals{Unreachable: unreachable, ByNode: []connections.NodeCounts{{Node: s.Node, Counts: s.Counts}}}
	for _, p := range peers {
		switch a, ok := answers[p.Number]; {
		case !ok: // already in unreachable
		case a.Statistics == nil:
			all.Unreachable = append(all.Unreachable, p.Name)
		default:
			all.ByNode = append(all.ByNode, connections.NodeCounts{Node: a.Statistics.Node, Counts: a.Statistics.decode()})
		}
	}
	slices.SortFunc(all.ByNode, func(a, b connections.NodeCounts) int { return strings.Compare(a.Node, b.Node) })
	for _, n := range all.ByNode {
		all.Nodes = append(all.Nodes, n.Node)
		all.Add(n.Counts)
	}
	s.Cluster = all
	return s
}
