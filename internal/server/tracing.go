package server

import (
	"context"
	"net/http"
	"strings"
	"time"

	"ssegateway/internal/gateway"
	"ssegateway/internal/tracing"
)

const (
	// flushSpans is how long the last spans may take to be sent.
	flushSpans = 900 * time.Millisecond
	// spanGrace is when, counted as flushGrace is, that is over in any case.
	spanGrace = drainGrace + closeGrace
)

// traceAPI returns a handler in which requests that send or publish have spans. Without a Tracer it
// returns next itself.
func traceAPI(t *tracing.Tracer, next http.HandlerFunc) http.HandlerFunc {
	if t == nil {
		return next
	}
	traced := map[string]http.HandlerFunc{
		"/internal/send":    t.Handler("send", next),
		"/internal/publish": t.Handler("publish", next),
		"/internal/batch": t.Handler("batch", func(w http.ResponseWriter, r *http.Request) {
			next(w, r.WithContext(tracing.WithoutSteps(r.Context())))
		}),
	}
	stream := t.Handler("stream", next)
	return func(w http.ResponseWriter, r *http.Request) {
		path := target(r)
		switch h := traced[path]; {
		case h != nil:
			h(w, r)
		case strings.HasPrefix(path, "/internal/connections/") && strings.HasSuffix(path, "/stream"):
			stream(w, r)
		default:
			next(w, r)
		}
	}
}

// traceCallbacks returns what follows the callbacks to a URL; nil without a Tracer.
func traceCallbacks(t *tracing.Tracer, url string) func(context.Context, string, gateway.Token) (context.Context, string, func(string, int)) {
	if t == nil {
		return nil
	}
	callbacks := t.Callbacks(url)
	return func(ctx context.Context, action string, token gateway.Token) (context.Context, string, func(string, int)) {
		name := ""
		if token != (gateway.Token{}) { // a batch has none
			name = token.String()
		}
		return callbacks.Start(ctx, action, name)
	}
}

// flushTraces sends the last spans of a server whose drain began at begin.
func (s *Server) flushTraces(begin time.Time) {
	if s.tracer == nil {
		return
	}
	ctx, cancel := s.behindWindow(begin, spanGrace)
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, flushSpans)
	defer cancel()
	s.tracer.Stop(ctx)
}
