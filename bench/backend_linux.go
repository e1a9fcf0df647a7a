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

// backend answers callbacks. It knows the token of each stream, and that the end of
// each is told once.
type backend struct {
	addr   string
	server *http.Server
	answer []byte

	mu       sync.Mutex
	tokens   []string            // by stream
	accepted map[string]struct{} // tokens whose end has not been told
	told     int64               // ends
	doubled  int64               // ends of what had ended, or was never accepted
}

func newBackend(streams int, answer string) *backend {
	return &backend{answer: []byte(answer), tokens: make([]string, streams), accepted: map[string]struct{}{}}
}

// startBackend takes over the listener.
func startBackend(l net.Listener, streams int, answer string) *backend {
	b := newBackend(streams, answer)
	b.addr = l.Addr().String()
	b.server = &http.Server{Handler: b, ReadHeaderTimeout: patience}
	go b.server.Serve(l) //nolint:errcheck // ends by Close
	return b
}

func (b *backend) close() { _ = b.server.Close() } // it has nothing more to say

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var call struct {
		Action, Token string
		Request       struct{ URL string }
	}
	if err := json.NewDecoder(r.Body).Decode(&call); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if call.Action != "connect" {
		if _, ok := b.accepted[call.Token]; !ok {
			b.doubled++
			return
		}
		delete(b.accepted, call.Token)
		b.told++
		return
	}
	n, err := strconv.Atoi(strings.TrimPrefix(call.Request.URL, "/bench/"))
	if err != nil || n < 0 || n >= len(b.tokens) {
		http.Error(w, "no stream of this run", http.StatusForbidden)
		return
	}
	b.tokens[n] = call.Token
	b.accepted[call.Token] = struct{}{}
	_, _ = w.Write(b.answer) // a gateway that is gone shows elsewhere
}

func (b *backend) token(stream int) string {
	if b == nil {
		return ""
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tokens[stream]
}

// wait waits until every end was told. It gives up when nothing has come for a while.
func (b *backend) wait(ctx context.Context) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	before, since := int64(-1), time.Now()
	for {
		b.mu.Lock()
		left, told := len(b.accepted), b.told
		b.mu.Unlock()
		if left == 0 {
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

// err says that the gateway did not tell every end once.
func (b *backend) err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.accepted)+int(b.doubled) == 0 {
		return nil
	}
	return fmt.Errorf("disconnect callbacks: %d told, %d missing, %d doubled", b.told, len(b.accepted), b.doubled)
}
