package probe

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"ssegateway/internal/operator"
)

// API calls the gateway under /internal. *[operator.Client] does.
type API interface {
	Call(ctx context.Context, method, path string, body, answer any) error
}

// connection is what the gateway says of one.
type connection struct {
	Token   string   `json:"token"`
	Kind    string   `json:"kind"`
	Path    string   `json:"path"`
	Topics  []string `json:"topics"`
	Bytes   uint64   `json:"bytes_written"`
	Request *struct {
		Headers map[string]string `json:"headers"`
	} `json:"request"` // where one connection is looked at, of gateways that show it
}

// relayed is the kind of a connection whose stream an application writes.
const relayed = "relay"

// connections returns all connections, by their tokens.
func (p *prober) connections(ctx context.Context) (map[string]connection, error) {
	all := map[string]connection{}
	for cursor := ""; ; {
		var page struct {
			Connections []connection `json:"connections"`
			Next        string       `json:"next_cursor"`
		}
		if err := p.api.Call(ctx, http.MethodGet, "/internal/connections?limit=1000&cursor="+url.QueryEscape(cursor), nil, &page); err != nil {
			return nil, err
		}
		for _, c := range page.Connections {
			all[c.Token] = c
		}
		if cursor = page.Next; cursor == "" {
			return all, nil
		}
	}
}

// look returns a connection, and whether it is there.
func (p *prober) look(ctx context.Context, token string) (c connection, there bool, err error) {
	err = p.api.Call(ctx, http.MethodGet, "/internal/connections/"+token, nil, &c)
	if isGone(err) {
		return c, false, nil
	}
	return c, err == nil, err
}

type event struct {
	Name string `json:"name"`
	Data string `json:"data"`
}

// send sends an event. A connection that is gone takes nothing, which shows in what comes.
func (p *prober) send(ctx context.Context, token string, e event, written bool) error {
	if err := p.trySend(ctx, token, e, written); !isGone(err) {
		return err
	}
	return nil
}

// trySend sends an event. With written it waits until the gateway has handed it to the network.
func (p *prober) trySend(ctx context.Context, token string, e event, written bool) error {
	var answer struct{}
	q := struct {
		Token string `json:"token"`
		Event event  `json:"event"`
		Wait  string `json:"wait,omitzero"`
	}{Token: token, Event: e}
	if written {
		q.Wait = "written"
	}
	return p.api.Call(ctx, http.MethodPost, "/internal/send", q, &answer)
}

// end closes a connection. One that is gone is no error.
func (p *prober) end(ctx context.Context, token string) error {
	var answer struct{}
	err := p.api.Call(ctx, http.MethodDelete, "/internal/connections/"+token, nil, &answer)
	if isGone(err) {
		return nil
	}
	return err
}

// isGone reports whether the gateway has no such connection.
func isGone(err error) bool {
	refusal := (*operator.Error)(nil)
	return errors.As(err, &refusal) && refusal.Code == "TOKEN_NOT_FOUND"
}
