package operator

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// connection is what the gateway says of a connection.
type connection struct {
	Token    string    `json:"token"`
	Node     string    `json:"node"`
	State    string    `json:"state"`
	Path     string    `json:"path"`
	ClientIP string    `json:"client_ip"`
	Subject  string    `json:"subject"`
	Topics   []string  `json:"topics"`
	Overflow string    `json:"overflow"`
	Since    time.Time `json:"since"`
	Events   uint64    `json:"events_written"`
	Bytes    uint64    `json:"bytes_written"`
	Queued   int64     `json:"bytes_queued"`
	Drops    uint64    `json:"drops"`
}

// Query selects the connections that List prints.
type Query struct {
	Topic, Subject string // empty: any
	After          string // the token of the last one that was printed before; empty: from the beginning
	Limit          int    // 0: all
	JSON           bool   // print each as the gateway gives it, one in a line
}

// pageSize is how many connections the gateway is asked for at a time: its most.
const pageSize = 1000

// List prints connections to out, in the order of their tokens, and to notes what is missing.
func (c *Client) List(ctx context.Context, q Query, out, notes io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if !q.JSON {
		fmt.Fprintln(table, "TOKEN\tSTATE\tAGE\tEVENTS\tQUEUED\tTOPICS\tSUBJECT\tPATH")
	}
	for printed := 0; ; {
		size := pageSize
		if q.Limit > 0 {
			size = min(size, q.Limit-printed)
		}
		values := url.Values{"limit": {strconv.Itoa(size)}}
		for name, value := range map[string]string{"topic": q.Topic, "subject": q.Subject, "cursor": q.After} {
			if value != "" {
				values.Set(name, value)
			}
		}
		var page struct {
			Connections []jsontext.Value `json:"connections"`
			Next        string           `json:"next_cursor"`
			Unreachable []string         `json:"unreachable_nodes"`
		}
		if err := c.Call(ctx, http.MethodGet, "/internal/connections?"+values.Encode(), nil, &page); err != nil {
			return err
		}
		for _, raw := range page.Connections {
			if q.JSON {
				fmt.Fprintf(out, "%s\n", raw)
				continue
			}
			var one connection
			if err := json.Unmarshal(raw, &one); err != nil {
				return err
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", one.Token, one.State, age(one.Since), one.Events, one.Queued,
				dash(few(one.Topics)), dash(printable(one.Subject)), printable(one.Path))
		}
		if err := table.Flush(); err != nil {
			return err
		}
		sayUnreachable(notes, page.Unreachable)
		printed += len(page.Connections)
		if page.Next == "" {
			return nil
		}
		q.After = page.Next
		if q.Limit > 0 && printed >= q.Limit {
			fmt.Fprintln(notes, "there are more: --after "+page.Next)
			return nil
		}
	}
}

// Show prints one connection.
func (c *Client) Show(ctx context.Context, token string, asJSON bool, out io.Writer) error {
	var raw jsontext.Value
	if err := c.Call(ctx, http.MethodGet, "/internal/connections/"+url.PathEscape(token), nil, &raw); err != nil {
		return err
	}
	if asJSON {
		fmt.Fprintf(out, "%s\n", raw)
		return nil
	}
	var one connection
	if err := json.Unmarshal(raw, &one); err != nil {
		return err
	}
	topics := make([]string, len(one.Topics))
	for i, t := range one.Topics {
		topics[i] = printable(t)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"token", one.Token},
		{"node", printable(one.Node)},
		{"state", one.State},
		{"path", printable(one.Path)},
		{"client", dash(printable(one.ClientIP))},
		{"subject", dash(printable(one.Subject))},
		{"topics", dash(strings.Join(topics, " "))},
		{"since", one.Since.Format(time.RFC3339) + " (" + age(one.Since) + ")"},
		{"written", fmt.Sprintf("%d events, %d bytes", one.Events, one.Bytes)},
		{"queued", fmt.Sprintf("%d bytes", one.Queued)},
		{"overflow", fmt.Sprintf("%s, %d events dropped", one.Overflow, one.Drops)},
	} {
		fmt.Fprintf(table, "%s\t%s\n", row[0], row[1])
	}
	return table.Flush()
}

// Close closes a connection, and prints the answer.
func (c *Client) Close(ctx context.Context, token string, out io.Writer) error {
	return c.printStatus(ctx, http.MethodDelete, "/internal/connections/"+url.PathEscape(token), nil, out)
}

// printStatus makes a request whose answer is only a status, and prints that.
func (c *Client) printStatus(ctx context.Context, method, path string, body any, out io.Writer) error {
	var answer struct {
		Status string `json:"status"`
	}
	if err := c.Call(ctx, method, path, body, &answer); err != nil {
		return err
	}
	fmt.Fprintln(out, answer.Status)
	return nil
}

// sayUnreachable says which nodes have not answered, so that what they have is missing.
func sayUnreachable(notes io.Writer, nodes []string) {
	if len(nodes) > 0 {
		fmt.Fprintln(notes, "these nodes did not answer, what they have is missing:", strings.Join(nodes, ", "))
	}
}

// few returns the first topics, and how many more there are.
func few(topics []string) string {
	const most = 3
	var b strings.Builder
	for i, t := range topics {
		if i == most {
			fmt.Fprintf(&b, " +%d", len(topics)-most)
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(printable(t))
	}
	return b.String()
}
