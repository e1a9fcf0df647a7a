// Package comeback is a plugin of Traefik for the streams of a gateway. Where Traefik has no answer
// of the gateway it has the client come back, and it ends a stream on which nothing more comes.
//
// Traefik interprets it (https://github.com/traefik/yaegi), so it has to stay within the standard library.
package comeback

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// Config is what the configuration of the middleware says.
type Config struct {
	// Silence is how long the gateway may send nothing.
	Silence string `json:"silence,omitempty"`
}

// CreateConfig returns the defaults.
func CreateConfig() *Config { return &Config{Silence: "60s"} }

type middleware struct {
	next    http.Handler
	silence time.Duration
}

// New returns the middleware in front of what asks the gateway.
func New(_ context.Context, next http.Handler, c *Config, _ string) (http.Handler, error) {
	silence, err := time.ParseDuration(c.Silence)
	return &middleware{next: next, silence: silence}, err
}

func (m *middleware) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	timer := time.AfterFunc(m.silence, cancel)
	defer timer.Stop()
	m.next.ServeHTTP(&answer{ResponseWriter: w, timer: timer, silence: m.silence}, r.WithContext(ctx))
}

// cancelled is Traefik's status for a request that was cancelled, here by the timer.
const cancelled = 499

// answer passes the gateway's answer on, and replaces Traefik's own.
type answer struct {
	http.ResponseWriter
	timer    *time.Timer
	silence  time.Duration
	replaced bool
}

// WriteHeader tells the two apart by the Date: every answer of the gateway has one, and Traefik adds
// its own only later.
func (a *answer) WriteHeader(status int) {
	if status < cancelled || a.Header().Get("Date") != "" {
		a.ResponseWriter.WriteHeader(status)
		return
	}
	a.replaced = true
	a.Header().Set("Content-Type", "text/event-stream")
	a.Header().Set("Cache-Control", "no-cache")
	a.ResponseWriter.WriteHeader(http.StatusOK)
	// At random, so that those who were cut off together do not come back together.
	fmt.Fprintf(a.ResponseWriter, "retry: %d\n\n", 1000+rand.IntN(4000)) //nolint:gosec // nobody gains from guessing it
}

// Write flushes, as the interpreter hides the method Flush of this type from Traefik.
func (a *answer) Write(p []byte) (int, error) {
	if a.replaced {
		return len(p), nil
	}
	a.timer.Reset(a.silence)
	n, err := a.ResponseWriter.Write(p)
	if flusher, ok := a.ResponseWriter.(http.Flusher); ok {
		flusher.Flush()
	}
	return n, err
}
