// Package api is what the backend calls: /internal/…. It decodes, validates and
// answers; who may call it is decided before (internal/server). What is asked for is
// done behind [connections.Connections], by whichever node holds the connections.
package api

import (
	_ "embed"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"

	"ssegateway/internal/connections"
)

// API serves the requests under /internal/.
type API struct {
	conns     connections.Connections
	maxBody   int64
	maxTopics int
	log       *slog.Logger
	invalid   atomic.Uint64 // sends
}

// New makes an API. Bodies may have up to maxBody bytes, but for those of streaming
// requests, each of whose events may; maxTopics bounds the topics of a connection, and of
// what is published.
func New(conns connections.Connections, maxBody int64, maxTopics int, log *slog.Logger) *API {
	return &API{conns: conns, maxBody: maxBody, maxTopics: maxTopics, log: log}
}

// InvalidSends counts the sends that were found invalid before any connection was looked for.
func (a *API) InvalidSends() uint64 { return a.invalid.Load() }

// openAPI describes what is served here. It is written by hand, and what the tests
// of the API see is checked against it.
//
//go:embed openapi.yaml
var openAPI []byte

// ServeHTTP routes by the raw request target.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	switch path {
	case "/internal/send":
		a.send(w, r)
	case "/internal/publish":
		a.publish(w, r)
	case "/internal/batch":
		a.batch(w, r)
	case "/internal/connections":
		a.connections(w, r)
	case "/internal/stats":
		a.stats(w, r)
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
			errUnknownOp.Write(w)
		}
	}
}
