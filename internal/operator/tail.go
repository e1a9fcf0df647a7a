package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"time"

	"github.com/go-json-experiment/json"

	"ssegateway/sse"
)

// Tail is what to follow, and how to print it.
type Tail struct {
	Topics []string
	From   string // the id to go on behind; empty: from now on
	Raw    bool   // the bytes of the stream
	JSON   bool   // each event as JSON, one in a line
}

// again is how long to wait before another attempt, unless the gateway says how long.
const again = time.Second

// Tail prints what is published on topics until ctx ends. When it loses the stream it says so to
// notes, and goes on behind the last event. It fails if the gateway refuses it, or is not there at
// the beginning.
func (c *Client) Tail(ctx context.Context, t Tail, out, notes io.Writer) error {
	p := &printer{Tail: t, out: out, notes: notes}
	for first := true; ; first = false {
		wait, err := c.follow(ctx, p)
		refused := (*Error)(nil)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // it was told to end
		case p.failure != nil:
			return p.failure
		case first && !p.opened, errors.As(err, &refused) && !isPassing(refused):
			return err
		}
		if p.opened {
			fmt.Fprintf(notes, "the stream has ended: %v\n", err)
			p.opened, p.lost = false, true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// isPassing reports whether a refusal may be none soon.
func isPassing(e *Error) bool { return e.Code == "BROKER_UNAVAILABLE" || e.Code == "TOO_MANY_TAILS" }

var errEnded = errors.New("the gateway ended it")

// follow prints one stream to its end, and returns how long to wait before the next one and why it
// ended.
func (c *Client) follow(ctx context.Context, p *printer) (wait time.Duration, err error) {
	header := http.Header{"Accept": {"text/event-stream"}}
	if p.From != "" {
		header.Set("Last-Event-ID", p.From)
	}
	resp, err := c.do(ctx, http.MethodGet, "/internal/tail?"+url.Values{"topic": p.Topics}.Encode(), nil, header)
	if err != nil {
		return again, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return again, c.refusal(resp)
	}
	if p.opened = true; p.lost {
		fmt.Fprintln(p.notes, "following again, behind", dash(p.From))
	}
	var body io.Reader = resp.Body
	if p.Raw {
		body = io.TeeReader(body, rawOut{p})
	}
	d := sse.NewDecoderMax(body, math.MaxInt32) // the gateway has bounds
	for {
		before := d.LastEventID()
		e, isEvent, err := d.NextBlock()
		if id := d.LastEventID(); id.IsSet() {
			p.From = id.String()
		}
		if isEvent && e.ID == before {
			e.ID = sse.ID{} // not its own: it is not stored
		}
		if isEvent && !p.Raw {
			p.print(e)
		}
		if p.failure != nil {
			return 0, p.failure
		}
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) {
			err = errEnded
		}
		if d.Retry().IsSet() {
			wait = time.Duration(d.Retry().Millis()) * time.Millisecond //nolint:gosec // of the gateway: a few seconds
		}
		return max(wait, again), err
	}
}

// printer prints the events of a tail.
type printer struct {
	Tail

	out, notes io.Writer
	opened     bool  // the stream has begun
	lost       bool  // there was one before
	failure    error // of out
}

// rawOut is the printer as a Writer of the stream's bytes.
type rawOut struct{ *printer }

func (o rawOut) Write(b []byte) (int, error) {
	n, err := o.out.Write(b)
	o.failure = err
	return n, err
}

// print prints an event in one line: when it came, its id, name and data.
func (p *printer) print(e sse.Event) {
	now := time.Now()
	if p.JSON {
		line, err := json.Marshal(struct {
			Time time.Time `json:"time"`
			ID   string    `json:"id,omitzero"`
			Name string    `json:"event,omitzero"`
			Data string    `json:"data"`
		}{now, e.ID.String(), e.Name.String(), e.Data})
		if err == nil {
			_, err = fmt.Fprintf(p.out, "%s\n", line)
		}
		p.failure = err
		return
	}
	name := e.Name.String()
	if name == "" {
		name = "message" // as which an EventSource dispatches it
	}
	_, p.failure = fmt.Fprintf(p.out, "%s %s %s %s\n", now.Format("15:04:05.000"), dash(printable(e.ID.String())), printable(name), printable(e.Data))
}
