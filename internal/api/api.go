// Package api is the HTTP API that the backend calls: /internal/…. It decodes and validates
// requests, and writes the answers. Access is decided before, in internal/server. The
// operations themselves are those of [connections.Connections].
package api

import (
	_ "embed"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"ssegateway/internal/connections"
	"ssegateway/internal/history"
)

// API serves the requests under /internal/.
type API struct {
	conns     connections.Connections
	maxBody   int64
	maxTopics int
	follow    Follow
	past      Past
	log       *slog.Logger
	invalid   atomic.Uint64 // sends

	invalidPublishes atomic.Uint64
}

// Follow answers a request with a stream of what is published on topics, until that ends, or returns
// why it does not.
type Follow func(w http.ResponseWriter, r *http.Request, topics []string) *Error

// Past has the counts of the last minutes.
type Past struct {
	// Points returns those of the last d.
	Points func(d time.Duration) []history.Point
	// Follow answers a request with a stream of the same, which goes on, or returns why it does not.
	Follow func(w http.ResponseWriter, r *http.Request, d time.Duration) *Error
}

// New makes an API. maxBody bounds a body, in bytes, or each event in the body of a streaming
// request. maxTopics bounds the topics of a connection, and of a publication.
func New(conns connections.Connections, maxBody int64, maxTopics int, follow Follow, past Past, log *slog.Logger) *API {
	return &API{conns: conns, maxBody: maxBody, maxTopics: maxTopics, follow: follow, past: past, log: log}
}

// InvalidSends returns how many sends were refused as invalid before their connection was looked up.
func (a *API) InvalidSends() uint64 { return a.invalid.Load() }

// InvalidPublishes returns how many publishes were refused as invalid.
func (a *API) InvalidPublishes() uint64 { return a.invalidPublishes.Load() }

// openAPI describes what is served here. It is written by hand, and what the tests
// of the API see is checked against it.
//
//go:embed openapi.yaml
var openAPI []byte

// ServeHTTP routes by the raw request target.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	switch path {
	case "/internal/send", "/internal/send/": // some backends take any 404 for a token that is gone
		a.send(w, r)
	case "/internal/publish":
		a.publish(w, r)
	case "/internal/batch":
		a.batch(w, r)
	case "/internal/connections":
		a.connections(w, r)
	case "/internal/position":
		a.position(w, r)
	case "/internal/retained":
		a.retained(w, r)
	case "/internal/stats":
		a.stats(w, r)
	case "/internal/tail":
		a.tail(w, r)
	case "/internal/openapi.yaml":
		if Allow(w, r, http.MethodGet, http.MethodHead) {
			w.Header().Set("Content-Type", "application/yaml")
			_, _ = w.Write(openAPI)
		}
	default:
		token, ok := strings.CutPrefix(path, "/internal/connections/")
		if stream, streams := strings.CutSuffix(token, "/stream"); ok && streams {
			a.stream(w, r, stream)
		} else if ok && !strings.Contains(token, "/") {
			a.connection(w, r, token)
		} else {
			ErrUnknownOp.Write(w)
		}
	}
}
