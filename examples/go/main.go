// The program go is a backend that has its event streams held by a gateway. Go,
// standard library.
//
// It answers the gateway's callbacks, remembers which streams are whose, and reaches
// them with plain HTTP requests to the gateway.
package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

type backend struct {
	gateway string // its base URL
	secret  []byte // signs callbacks; without one anybody is believed
	client  *http.Client

	mu      sync.Mutex
	streams map[string]string // token of an open stream: whose it is
}

type object = map[string]any

// maxBody bounds a request's body: many ends at once take up to 1 MiB.
const maxBody = 2 << 20

// patience is how long the gateway may take for an answer.
const patience = 10 * time.Second

// callback is what the gateway POSTs.
type callback struct {
	Action string `json:"action"` // connect, disconnect, or disconnects
	Token  string `json:"token"`
	Events []struct {
		Token string `json:"token"`
	} `json:"events"` // of disconnects: many ends at once
	Request struct {
		URL     string            `json:"url"`
		Headers map[string]string `json:"headers"` // a real backend looks at a cookie here
	} `json:"request"`
}

func main() {
	b := &backend{
		gateway: cmp.Or(os.Getenv("GATEWAY"), "http://127.0.0.1:3000"),
		client:  &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}},
		streams: map[string]string{},
	}
	if secret := os.Getenv("CALLBACK_SIGNING_SECRET"); secret != "" {
		var err error
		if b.secret, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_")); err != nil {
			slog.Error("CALLBACK_SIGNING_SECRET is not valid") // the error would tell of it
			os.Exit(1)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /callback", b.serveCallback) // for the gateway only: do not let others reach it
	mux.HandleFunc("POST /send", b.serveSend)
	mux.HandleFunc("POST /stream", b.serveStream)
	mux.HandleFunc("POST /publish", b.servePublish)
	mux.HandleFunc("GET /streams", b.serveStreams)

	b.remember() // before it listens: a disconnect that is told of meanwhile comes again later
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:"+cmp.Or(os.Getenv("PORT"), "8000"))
	if err == nil {
		fmt.Fprintf(os.Stdout, "listening on http://%s\n", listener.Addr())
		server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
		err = server.Serve(listener)
	}
	slog.Error("the backend does not run", "error", err)
	os.Exit(1)
}

// remember gets the streams that were opened before this process began. Without the gateway it waits: it
// cannot know.
func (b *backend) remember() {
	for cursor, more := "", true; more; {
		var page struct {
			Connections []struct{ Token, State, Subject string }
			NextCursor  string `json:"next_cursor"`
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		status, body, err := b.call(ctx, http.MethodGet, "/internal/connections?cursor="+cursor, "", nil)
		cancel()
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("the gateway answered %d: %s", status, body)
		}
		if err == nil {
			err = json.Unmarshal(body, &page)
		}
		if err != nil {
			slog.Warn("waiting for the gateway", "error", err)
			<-time.After(time.Second)
			continue
		}
		for _, c := range page.Connections {
			if c.State == "open" {
				b.streams[c.Token] = c.Subject
			}
		}
		cursor, more = page.NextCursor, page.NextCursor != ""
	}
}

// serveCallback is what the gateway asks and tells.
func (b *backend) serveCallback(w http.ResponseWriter, r *http.Request) {
	body, ok := read(w, r)
	if !ok {
		return
	}
	if !b.isSigned(r.Header, body) {
		answer(w, http.StatusUnauthorized, object{})
		return
	}
	var c callback
	if err := json.Unmarshal(body, &c); err != nil {
		answer(w, http.StatusBadRequest, object{"error": err.Error()})
		return
	}
	if !c.isComplete() {
		answer(w, http.StatusBadRequest, object{"error": "a callback without its token"})
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch c.Action {
	case "connect":
		b.connect(w, c)
	case "disconnect": // may be told twice, which does no harm
		delete(b.streams, c.Token)
		answer(w, http.StatusOK, object{})
	case "disconnects":
		for _, e := range c.Events {
			delete(b.streams, e.Token)
		}
		answer(w, http.StatusOK, object{})
	default: // a 200 would say that it was done
		answer(w, http.StatusBadRequest, object{"error": fmt.Sprintf("unknown action %q", c.Action)})
	}
}

// isComplete tells whether a callback names what it is about.
func (c *callback) isComplete() bool {
	switch c.Action {
	case "connect", "disconnect":
		return c.Token != ""
	case "disconnects":
		return len(c.Events) > 0 && c.Events[0].Token != ""
	}
	return true
}

// connect decides whether a stream opens.
func (b *backend) connect(w http.ResponseWriter, c callback) {
	_, query, _ := strings.Cut(c.Request.URL, "?")
	values, _ := url.ParseQuery(query)
	name := values.Get("name")
	if name == "" {
		answer(w, http.StatusUnauthorized, object{}) // anything but a 2xx refuses the stream
		return
	}
	b.streams[c.Token] = name
	answer(w, http.StatusOK, object{
		"subject": name,
		"topics":  []string{"news"},
		"events":  []object{{"name": "welcome", "data": "Hello, " + name}},
	})
}

// isSigned tells whether a callback comes from the gateway, and is not an old one again
// (https://www.standardwebhooks.com).
func (b *backend) isSigned(header http.Header, body []byte) bool {
	if b.secret == nil {
		return true
	}
	sent, err := strconv.ParseInt(header.Get("webhook-timestamp"), 10, 64)
	if err != nil || time.Since(time.Unix(sent, 0)).Abs() > 5*time.Minute {
		return false
	}
	mac := hmac.New(sha256.New, b.secret)
	fmt.Fprintf(mac, "%s.%d.%s", header.Get("webhook-id"), sent, body)
	signature := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	return slices.ContainsFunc(strings.Fields(header.Get("webhook-signature")), func(given string) bool {
		return hmac.Equal([]byte(given), []byte(signature))
	})
}

// serveSend sends to each of a user's streams, and says to how many.
func (b *backend) serveSend(w http.ResponseWriter, r *http.Request) {
	text, ok := read(w, r)
	if !ok {
		return
	}
	b.serveEach(w, r, func(token string) (int, error) {
		event := object{"name": "note", "data": string(text)}
		status, _, err := b.postJSON(r.Context(), "/internal/send", object{"token": token, "event": event})
		return status, err
	})
}

// serveStream streams the words to each of a user's streams: one request carries all events.
func (b *backend) serveStream(w http.ResponseWriter, r *http.Request) {
	text, ok := read(w, r)
	if !ok {
		return
	}
	b.serveEach(w, r, func(token string) (int, error) {
		body, events := io.Pipe()
		go func() {
			encoder := json.NewEncoder(events) // an object a line
			for word := range strings.FieldsSeq(string(text)) {
				if encoder.Encode(object{"name": "word", "data": word}) != nil {
					return // the reader has left
				}
			}
			_ = events.Close()
		}()
		status, _, err := b.call(r.Context(), http.MethodPost, "/internal/connections/"+token+"/stream", "application/x-ndjson", body)
		return status, err
	})
}

// serveEach does something with each of a user's streams.
func (b *backend) serveEach(w http.ResponseWriter, r *http.Request, do func(token string) (status int, err error)) {
	sent := 0
	for _, token := range b.tokens(r.URL.Query().Get("name")) {
		status, err := do(token)
		switch {
		case err != nil:
			refuse(w, err)
			return
		case status == http.StatusOK:
			sent++
		case status == http.StatusNotFound: // it has just ended
			b.mu.Lock()
			delete(b.streams, token)
			b.mu.Unlock()
		}
	}
	status := http.StatusOK
	if sent == 0 {
		status = http.StatusNotFound
	}
	answer(w, status, object{"sent": sent})
}

func (b *backend) tokens(name string) (tokens []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for token, whose := range b.streams {
		if whose == name {
			tokens = append(tokens, token)
		}
	}
	return tokens
}

// servePublish publishes to all who have the topic, wherever they are connected. With retain who comes later
// gets it too, until there is newer news.
func (b *backend) servePublish(w http.ResponseWriter, r *http.Request) {
	text, ok := read(w, r)
	if !ok {
		return
	}
	event := object{"name": "news", "data": string(text)}
	status, body, err := b.postJSON(r.Context(), "/internal/publish", object{"topic": "news", "event": event, "retain": true})
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, status, json.RawMessage(body))
}

func (b *backend) serveStreams(w http.ResponseWriter, _ *http.Request) {
	b.mu.Lock()
	names := []string{}
	for _, name := range b.streams {
		names = append(names, name)
	}
	b.mu.Unlock()
	slices.Sort(names)
	answer(w, http.StatusOK, names)
}

func (b *backend) postJSON(ctx context.Context, path string, value any) (status int, body []byte, err error) {
	text, err := json.Marshal(value)
	if err != nil {
		return 0, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return b.call(ctx, http.MethodPost, path, "application/json", bytes.NewReader(text))
}

// call calls the gateway. The body goes out as it comes.
func (b *backend) call(ctx context.Context, method, path, contentType string, body io.Reader) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, b.gateway+path, body)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := b.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// read returns the body of a request, or answers that it cannot be had.
func read(w http.ResponseWriter, r *http.Request) (body []byte, ok bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		answer(w, http.StatusRequestEntityTooLarge, object{"error": err.Error()})
	case err != nil: // the client has left
		answer(w, http.StatusBadRequest, object{"error": err.Error()})
	}
	return body, err == nil
}

// refuse says that the gateway is away. What was to be sent is lost: publish again what must not be.
func refuse(w http.ResponseWriter, err error) {
	slog.Warn("the gateway cannot be reached", "error", err)
	answer(w, http.StatusBadGateway, object{"error": err.Error()})
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // a caller that left does not want it
}
