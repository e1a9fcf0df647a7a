package bench

import (
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

// backend answers callbacks. It keeps the token of each stream, and checks that each
// disconnect is reported exactly once.
type backend struct {
	addr   string
	server *http.Server
	answer []byte

	mu       sync.Mutex
	tokens   []string            // by stream
	accepted map[string]struct{} // tokens without a disconnect callback yet
	told     int64               // disconnect callbacks
	doubled  int64               // those for a token that had disconnected, or was never accepted
}

func newBackend(streams int, answer string) *backend {
	return &backend{answer: []byte(answer), tokens: make([]string, streams), accepted: map[string]struct{}{}}
}

// startBackend starts a backend on the listener, which close closes.
func startBackend(l net.Listener, streams int, answer string) *backend {
	b := newBackend(streams, answer)
	b.addr = l.Addr().String()
	b.server = &http.Server{Handler: b, ReadHeaderTimeout: patience}
	go b.server.Serve(l) //nolint:errcheck // ends by Close
	return b
}

// close ends the backend. Callbacks that have come are answered first: one that is counted, and not answered, would
// be repeated by the gateway, and nobody would answer it.
func (b *backend) close() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if b.server.Shutdown(ctx) != nil {
		_ = b.server.Close() // an error does not matter any more
	}
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var call struct {
		Action, Token string
		Request       struct{ URL string }
		Events        []struct{ Token string } // of "disconnects": CALLBACK_BATCH
	}
	if err := json.NewDecoder(r.Body).Decode(&call); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch call.Action {
	case "connect":
	case "disconnect":
		b.end(call.Token)
		return
	case "disconnects":
		for _, e := range call.Events {
			b.end(e.Token)
		}
		return
	default:
		http.Error(w, "no such action", http.StatusBadRequest)
		return
	}
	n, err := strconv.Atoi(strings.TrimPrefix(call.Request.URL, "/bench/"))
	if err != nil || n < 0 || n >= len(b.tokens) {
		http.Error(w, "no stream of this run", http.StatusForbidden)
		return
	}
	b.tokens[n] = call.Token
	b.accepted[call.Token] = struct{}{}
	_, _ = w.Write(b.answer) // if the gateway has gone, another check reports it
}

// end counts an end that was told. The caller holds mu.
func (b *backend) end(token string) {
	if _, ok := b.accepted[token]; !ok {
		b.doubled++
		return
	}
	delete(b.accepted, token)
	b.told++
}

func (b *backend) token(stream int) string {
	if b == nil {
		return ""
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tokens[stream]
}

// wait waits until every disconnect was reported but those of so many open streams. It gives up when none has come for patience.
func (b *backend) wait(ctx context.Context, open int) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	before, since := int64(-1), time.Now()
	for {
		b.mu.Lock()
		left, told := len(b.accepted), b.told
		b.mu.Unlock()
		if left <= open {
			return nil
		}
		if told != before {
			before, since = told, time.Now()
		}
		if time.Since(since) > patience {
			return nil // err says how many are missing
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// err returns an error unless every disconnect was reported exactly once.
func (b *backend) err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.accepted)+int(b.doubled) == 0 {
		return nil
	}
	return fmt.Errorf("disconnect callbacks: %d told, %d missing, %d doubled", b.told, len(b.accepted), b.doubled)
}
