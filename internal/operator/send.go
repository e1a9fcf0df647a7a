package operator

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// Event is an event to send or to publish.
type Event struct {
	Name string `json:"name,omitzero"`
	ID   string `json:"id,omitzero"`
	Data string `json:"data"`
}

// Send sends an event to a connection, closes it, or both, and prints the answer.
func (c *Client) Send(ctx context.Context, token string, e *Event, end bool, out io.Writer) error {
	return c.printStatus(ctx, http.MethodPost, "/internal/send", struct {
		Token string `json:"token"`
		Event *Event `json:"event,omitzero"`
		Close bool   `json:"close,omitzero"`
	}{token, e, end}, out)
}

// Publication is an event for a topic.
type Publication struct {
	Topic  string `json:"topic"`
	Event  Event  `json:"event"`
	Store  bool   `json:"store"` // for clients that come back too
	Retain bool   `json:"retain,omitzero"`
	Key    string `json:"key,omitzero"`
}

// Publish publishes an event, and prints the answer. What is missing in it goes to notes.
func (c *Client) Publish(ctx context.Context, p Publication, out, notes io.Writer) error {
	var answer struct {
		ID          string   `json:"id"`
		Receivers   int64    `json:"receivers"`
		Unreachable []string `json:"unreachable_nodes"`
	}
	err := c.Call(ctx, http.MethodPost, "/internal/publish", struct {
		Publication
		Count string `json:"count"` // the receivers of all nodes
	}{p, "all"}, &answer)
	if err != nil {
		return err
	}
	id := answer.ID
	if !p.Store {
		id = "not stored"
	}
	fmt.Fprintf(out, "ok, %s, %s\n", id, number(answer.Receivers, "receiver"))
	sayUnreachable(notes, answer.Unreachable)
	return nil
}
