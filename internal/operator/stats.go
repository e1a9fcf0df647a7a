package operator

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// counts are those of a node, or the sums over a cluster.
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

// stats is the answer to GET /internal/stats, and when it came.
type stats struct {
	at   time.Time
	Node string `json:"node"`
	counts
	Log struct {
		Epoch  string `json:"epoch"`
		Oldest uint64 `json:"oldest"`
		Last   uint64 `json:"last"`
		Bytes  int64  `json:"bytes"`
		Events int64  `json:"events"`
	} `json:"log"`
	Cluster *struct {
		Nodes       []string `json:"nodes"`
		Unreachable []string `json:"unreachable_nodes"`
		counts
	} `json:"cluster"`
}

const statsPath = "/internal/stats"

func (c *Client) stats(ctx context.Context) (s stats, err error) {
	err = c.Call(ctx, http.MethodGet, statsPath, nil, &s)
	s.at = time.Now()
	return s, err
}

// Stats prints the statistics, as a table or as the gateway gives them.
func (c *Client) Stats(ctx context.Context, asJSON bool, out io.Writer) error {
	if asJSON {
		var raw jsontext.Value
		if err := c.Call(ctx, http.MethodGet, statsPath, nil, &raw); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s\n", raw)
		return nil
	}
	s, err := c.stats(ctx)
	if err != nil {
		return err
	}
	_, err = out.Write(s.table(nil))
	return err
}

// clearScreen moves a terminal's cursor to the beginning, and clears all behind it.
const clearScreen = "\x1b[H\x1b[J"

// Watch prints the statistics every second until ctx ends: on a screen, or as one line each. While
// the gateway does not answer it says so, and goes on.
func (c *Client) Watch(ctx context.Context, screen bool, out, notes io.Writer) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var before *stats
	for first := true; ; first = false {
		now, err := c.stats(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			return err
		case err != nil && screen:
			fmt.Fprintf(out, "%s%v\n", clearScreen, err)
		case err != nil:
			fmt.Fprintln(notes, err)
		case screen:
			fmt.Fprintf(out, "%s%s  %s\n\n%s", clearScreen, c.address, now.at.Format(time.TimeOnly), now.table(before))
		default:
			fmt.Fprintln(out, now.line(before))
		}
		if before = nil; err == nil {
			before = &now
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// row is one figure of counts. A rate makes sense of those that only grow.
type row struct {
	name  string
	value int64
	grows bool
}

func (c *counts) rows() []row {
	return []row{
		{"streams open", c.Connections.Open, false},
		{"streams pending", c.Connections.Pending, false},
		{"streams opened", int64(c.Opened), true}, //nolint:gosec // all of these are far below 2^63
		{"events written", int64(c.Events), true}, //nolint:gosec // see above
		{"bytes written", int64(c.Bytes), true},   //nolint:gosec // see above
		{"bytes queued", c.Queued, false},
		{"events dropped", int64(c.Dropped), true}, //nolint:gosec // see above
	}
}

// column is the counts of a node, or of all, now and a while ago.
type column struct {
	title       string
	now, before []row // no before: there are no rates
	elapsed     time.Duration
}

// rate returns how much the value in a row grew in each second; - where that is unknown, as after
// a restart of the gateway.
func (c *column) rate(i int) string {
	if i >= len(c.before) || !c.now[i].grows || c.now[i].value < c.before[i].value {
		return "-"
	}
	return strconv.FormatFloat(float64(c.now[i].value-c.before[i].value)/c.elapsed.Seconds(), 'f', 0, 64)
}

// columns returns those of the node, and in a cluster of all nodes.
func (s *stats) columns(before *stats) []column {
	all := []column{{title: printable(s.Node), now: s.rows()}}
	if s.Cluster != nil {
		all = append(all, column{title: "all " + strconv.Itoa(len(s.Cluster.Nodes)), now: s.Cluster.rows()})
	}
	if before != nil {
		for i := range all {
			all[i].elapsed = s.at.Sub(before.at)
		}
		all[0].before = before.rows()
		if s.Cluster != nil && before.Cluster != nil && len(s.Cluster.Nodes) == len(before.Cluster.Nodes) {
			all[1].before = before.Cluster.rows()
		}
	}
	return all
}

// table prints the statistics, with rates if there are some from before.
func (s *stats) table(before *stats) []byte {
	var b bytes.Buffer
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	columns := s.columns(before)
	cells := func(of func(c *column) (value, rate string)) {
		for i := range columns {
			value, rate := of(&columns[i])
			if fmt.Fprintf(table, "\t%s", value); before != nil {
				fmt.Fprintf(table, "\t%s", rate)
			}
		}
		fmt.Fprint(table, "\t\n")
	}
	cells(func(c *column) (string, string) { return c.title, "/s" })
	for i, r := range columns[0].now {
		fmt.Fprint(table, r.name)
		cells(func(c *column) (string, string) { return strconv.FormatInt(c.now[i].value, 10), c.rate(i) })
	}
	_ = table.Flush() // to memory
	fmt.Fprintf(&b, "\nlog: %s, %s", number(s.Log.Events, "event"), number(s.Log.Bytes, "byte"))
	if s.Log.Events > 0 {
		fmt.Fprintf(&b, ", %s-%d to %d", s.Log.Epoch, s.Log.Oldest, s.Log.Last)
	}
	b.WriteByte('\n')
	if s.Cluster != nil {
		sayUnreachable(&b, s.Cluster.Unreachable)
	}
	return b.Bytes()
}

// line prints the statistics, of the cluster if there is one, as one line.
func (s *stats) line(before *stats) string {
	columns := s.columns(before)
	c := &columns[len(columns)-1]
	var b strings.Builder
	b.WriteString(s.at.Format(time.TimeOnly))
	if s.Cluster != nil {
		fmt.Fprintf(&b, " nodes=%d", len(s.Cluster.Nodes))
	}
	for i, r := range c.now {
		name := strings.ReplaceAll(r.name, " ", "_")
		if fmt.Fprintf(&b, " %s=%d", name, r.value); r.grows {
			fmt.Fprintf(&b, " %s/s=%s", name, c.rate(i))
		}
	}
	return b.String()
}
