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

// Publish publishes an event to a topic, for clients that come back too if store is set, and
// prints the answer. What is missing in it goes to notes.
func (c *Client) Publish(ctx context.Context, topic string, e Event, store bool, out, notes io.Writer) error {
	var answer struct {
		ID          string   `json:"id"`
		Receivers   int64    `json:"receivers"`
		Unreachable []string `json:"unreachable_nodes"`
	}
	err := c.call(ctx, http.MethodPost, "/internal/publish", struct {
		Topic string `json:"topic"`
		Event Event  `json:"event"`
		Store bool   `json:"store"`
		Count string `json:"count"`
	}{topic, e, store, "all"}, &answer)
	if err != nil {
		return err
	}
	id := answer.ID
	if !store {
		id = "not stored"
	}
	fmt.Fprintf(out, "ok, %s, %s\n", id, number(answer.Receivers, "receiver"))
	sayUnreachable(notes, answer.Unreachable)
	return nil
}
