// Package api is what the backend calls: /internal/…. It decodes, validates and
// answers; who may call it is decided before (internal/server).
package api

import (
	_ "embed"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"ssegateway/internal/cluster"
	"ssegateway/internal/gateway"
	"ssegateway/internal/topics"
)

// API serves the requests under /internal/.
type API struct {
	gw       *gateway.Gateway
	topics   *topics.Topics
	maxBody  int64
	node     string
	nodes    *cluster.Node // nil: there are no others
	expected sync.Map      // of nodes' refs to *topics.Delivery
	streams  remoteStreams
	log      *slog.Logger
	sends    [len(sendResults)]atomic.Uint64
}

// New makes an API of the node with this name. Bodies may have up to maxBody bytes,
// but for those of streaming requests, each of whose events may.
func New(gw *gateway.Gateway, t *topics.Topics, maxBody int64, node string, log *slog.Logger) *API {
	return &API{gw: gw, topics: t, maxBody: maxBody, node: node, log: log}
}

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
