package cluster

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// client behaves like an EventSource: when its stream ends, it reconnects after the retry
// time, with the last id that it had. It records everything that it received.
type client struct {
	record *record
	addr   string // of nginx, or of a node
	number int
	topics []int
	stays  bool // until the end of the test; the others disconnect and are replaced

	mu      sync.Mutex
	history []item
	opens   []time.Time        // of its streams
	lastID  string             // as a browser keeps it
	leave   context.CancelFunc // closes the current stream
	hopped  bool               // hop has closed the stream: reconnect at once
	denied  []string           // answers after which a browser would have given up
	wrong   []string           // errors in what it received
	current *connection
	doing   string // shown if it has no stream
}

func (c *client) does(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doing = what
}

// item is one entry of a client's history.
type item struct {
	kind        itemKind
	publication int      // of an event
	at          position // its id
	from        position // of a gap: the client's position according to it
}

type itemKind uint8

const (
	event itemKind = iota
	start          // the position with which its first stream begins
	gap
)

// run opens streams until ctx ends.
func (c *client) run(ctx context.Context) {
	retry := retryMillis * time.Millisecond
	for ctx.Err() == nil {
		stream, leave := context.WithCancel(ctx)
		c.mu.Lock()
		c.leave, c.hopped = leave, false
		c.mu.Unlock()
		c.open(stream, &retry)
		leave()
		c.mu.Lock()
		if ended := c.current; ended != nil {
			ended.mu.Lock()
			ended.ended = ctx.Err() == nil || !c.stays // a client that stays is disconnected only after all traffic has ended
			ended.mu.Unlock()
		}
		c.current, c.doing = nil, "waits"
		hopped := c.hopped
		c.mu.Unlock()
		if hopped {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

// hop closes the current stream. The client reconnects at once, to any node.
func (c *client) hop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil {
		c.hopped = true
		c.leave()
	}
}

// open opens one stream, and reads it until it ends.
func (c *client) open(ctx context.Context, retry *time.Duration) {
	c.does("dials")
	dialer := net.Dialer{Timeout: 5 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	names := make([]string, len(c.topics))
	for i, topic := range c.topics {
		names[i] = topicName(topic)
	}
	topics, _ := json.Marshal(names) // strings never fail
	resume := ""
	if c.lastID != "" {
		resume = "Last-Event-ID: " + c.lastID + "\r\n"
	}
	_, err = fmt.Fprintf(conn, "GET /events/%d HTTP/1.1\r\nHost: sse.test\r\nAccept: text/event-stream\r\n%s: %d\r\n%s: %s\r\n%s\r\n",
		c.number, clientHeader, c.number, topicsHeader, topics, resume)
	if err != nil {
		return
	}
	c.does("asks")
	r := bufio.NewReaderSize(conn, 1024) // small, because there are many
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		c.mu.Lock()
		c.denied = append(c.denied, resp.Status)
		c.mu.Unlock()
		return
	}
	c.does("reads")
	c.read(bufio.NewReaderSize(resp.Body, 1024), retry)
}

// read parses the stream into blocks.
func (c *client) read(body *bufio.Reader, retry *time.Duration) {
	var name, id, data string
	hasID, hasData := false, false
	for {
		line, err := body.ReadSlice('\n')
		if err != nil {
			return // an incomplete block is ignored
		}
		line = bytes.TrimSuffix(line, []byte("\n"))
		if len(line) == 0 {
			if hasID {
				c.lastID = id
			}
			if hasData || hasID {
				c.take(name, id, data, hasData)
			}
			name, data, hasID, hasData = "", "", false, false
			continue
		}
		field, value, _ := strings.Cut(string(line), ": ")
		switch field {
		case "event":
			name = value
		case "id":
			id, hasID = value, true
		case "data":
			data, hasData = value, true
		case "retry":
			if ms, err := strconv.Atoi(value); err == nil {
				*retry = time.Duration(ms) * time.Millisecond
			}
		}
	}
}

// take adds a block to the history.
func (c *client) take(name, id, data string, hasData bool) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	at, placed := c.record.position(id)
	number, err := strconv.Atoi(data)
	switch {
	case !hasData:
		if len(c.history) == 0 && placed {
			c.history = append(c.history, item{kind: start, at: at})
		}
		return // after a reconnect the position at the beginning does not say which events it has
	case name == "token":
		c.current = c.record.connection(data)
		if c.current == nil {
			c.wrong = append(c.wrong, "a token that the backend does not know: "+data)
			return
		}
		c.current.mu.Lock()
		c.current.opened = now
		c.current.mu.Unlock()
		c.opens = append(c.opens, now)
	case name == "gap":
		from, known := c.record.position(strings.TrimSuffix(strings.TrimPrefix(data, `{"last_event_id":"`), `"}`))
		if !placed || !known {
			c.wrong = append(c.wrong, "a gap without a position")
			return
		}
		c.history = append(c.history, item{kind: gap, at: at, from: from})
	case name == "sent" && err == nil && c.current != nil:
		c.current.mu.Lock()
		c.current.got = append(c.current.got, number)
		c.current.mu.Unlock()
	case name == "published" && err == nil && placed:
		p := c.record.publication(number)
		if p == nil {
			c.wrong = append(c.wrong, "an event that nobody published: "+data)
			return
		}
		c.history = append(c.history, item{kind: event, publication: number, at: at})
		if c.stays {
			p.had.Add(1)
		}
	default:
		c.wrong = append(c.wrong, fmt.Sprintf("event %q, id %q, data %q", name, id, data))
	}
	if c.current != nil {
		c.current.mu.Lock()
		c.current.last = now
		c.current.mu.Unlock()
	}
}
