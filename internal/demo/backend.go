package demo

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json" //nolint:depguard // an example to copy stays with what every Go program has at hand
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// This file is the example: all that a backend needs in order to have streams. It
// answers the gateway's callbacks, remembers which streams are whose, and sends
// events with a POST. It is plain net/http and works the same in any language.

// backend is an application whose streams a gateway holds.
type backend struct {
	sendURL       string       // the gateway's /internal/send
	authorization string       // header for it, if the gateway has an INTERNAL_TOKEN
	client        *http.Client // to the gateway
	secret        string       // in the callback URL: only the gateway knows it

	app application

	mu      sync.Mutex
	streams map[string]stream // by token: what is open, as far as this backend was told
}

// stream is what this backend remembers of an open stream.
type stream struct {
	user   user
	opened time.Time
}

// application is what differs from one backend to the next.
type application interface {
	// identify decides who wants to open a stream, by the client's own request: its path,
	// query, cookies and other headers. Anything but a 2xx refuses, and is what the client gets.
	identify(url string, headers map[string]string) (u user, status int)
	// opened is called for a stream that is about to open.
	opened(ctx context.Context, token string, u user)
	// received is called for each callback with its answer, for display.
	received(ctx context.Context, c callback, status int)
}

// callback is what the gateway POSTs. It may get more fields one day; they are ignored.
type callback struct {
	Action  string `json:"action"`           // "connect" or "disconnect"
	Reason  string `json:"reason,omitempty"` // of a disconnect: client_closed, server_closed or error
	Detail  string `json:"detail,omitempty"` // says more about the reason
	Token   string `json:"token"`            // the stream's name
	Request struct {
		URL     string            `json:"url"`     // as the client sent it, with its query
		Headers map[string]string `json:"headers"` // names in lower case
	} `json:"request"`
}

// serveCallback serves POST /callback, the connects and disconnects of the gateway.
func (b *backend) serveCallback(w http.ResponseWriter, r *http.Request) {
	if subtle.ConstantTimeCompare([]byte(r.URL.Query().Get("secret")), []byte(b.secret)) != 1 {
		http.Error(w, "this is for the gateway only", http.StatusForbidden)
		return
	}
	var c callback
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&c); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	switch c.Action {
	case "connect":
		w.WriteHeader(b.connect(r.Context(), c))
	case "disconnect":
		// The answer only acknowledges the disconnect.
		b.disconnect(r.Context(), c)
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// connect decides whether a stream opens: any 2xx opens it, with any body
// or none. The client waits for it.
func (b *backend) connect(ctx context.Context, c callback) (status int) {
	u, status := b.app.identify(c.Request.URL, c.Request.Headers)
	if status >= 200 && status <= 299 {
		// Remember the stream first: from here on it can be sent to.
		b.mu.Lock()
		b.streams[c.Token] = stream{user: u, opened: time.Now()}
		b.mu.Unlock()
		// Sending works inside this callback too: the gateway keeps events until the stream is
		// open.
		b.app.opened(ctx, c.Token, u)
	}
	b.app.received(ctx, c, status)
	return status
}

// disconnect forgets a stream. The gateway repeats the callback until it was
// answered, so the same one may come twice: forgetting twice does no harm.
func (b *backend) disconnect(ctx context.Context, c callback) {
	b.mu.Lock()
	delete(b.streams, c.Token)
	b.mu.Unlock()
	b.app.received(ctx, c, http.StatusNoContent)
}

// message is the body of POST /internal/send: an event, the end of the stream, or
// the one and then the other.
type message struct {
	Token string `json:"token"`
	Event *event `json:"event,omitempty"`
	Close bool   `json:"close,omitempty"`
}

type event struct {
	Name  string `json:"name,omitempty"`  // none: a browser takes it as "message"
	Data  string `json:"data"`            // may have many lines
	Retry int    `json:"retry,omitempty"` // milliseconds until a browser comes back
}

// errGone is the result of a send to a stream that has ended. That is no fault: the
// disconnect callback may still be on its way.
var errGone = errors.New("the stream has ended")

// send pushes to one stream. When it returns nil the gateway has taken the event,
// in order.
func (b *backend) send(ctx context.Context, m message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.sendURL, bytes.NewReader(body)) //nolint:gosec // the URL is configured
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if b.authorization != "" {
		req.Header.Set("Authorization", b.authorization)
	}
	resp, err := b.client.Do(req) //nolint:gosec // as above
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	switch {
	case err != nil:
		return err
	case resp.StatusCode == http.StatusOK:
		return nil
	case resp.StatusCode == http.StatusNotFound:
		b.mu.Lock()
		delete(b.streams, m.Token)
		b.mu.Unlock()
		return errGone
	default:
		return fmt.Errorf("the gateway answered %d %s", resp.StatusCode, strings.TrimSpace(string(answer)))
	}
}

// sendTo pushes to each chosen stream, and returns to how many it did.
func (b *backend) sendTo(ctx context.Context, chosen func(stream) bool, m message) (sent int, err error) {
	for _, token := range b.find(chosen) {
		m.Token = token
		switch sendErr := b.send(ctx, m); {
		case sendErr == nil:
			sent++
		case !errors.Is(sendErr, errGone):
			err = sendErr
		}
	}
	return sent, err
}

// find lists the tokens of the streams that are chosen. Nothing is sent while the
// lock is held.
func (b *backend) find(chosen func(stream) bool) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var tokens []string
	for token, s := range b.streams {
		if chosen(s) {
			tokens = append(tokens, token)
		}
	}
	return tokens
}
