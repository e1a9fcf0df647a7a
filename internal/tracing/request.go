package tracing

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"ssegateway/internal/logging"
)

// Handler returns a handler that calls next within a span of this name. The span ends when the answer
// begins, so that none lasts as long as a stream. Without a Tracer Handler returns next itself.
func (t *Tracer) Handler(name string, next http.HandlerFunc) http.HandlerFunc {
	if t == nil {
		return next
	}
	return func(w http.ResponseWriter, r *http.Request) {
		path, _, _ := strings.Cut(r.RequestURI, "?")
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		ctx := t.propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := t.start(ctx, name, trace.SpanKindServer, method(r.Method), semconv.URLScheme(scheme),
			semconv.URLPath(strings.ToValidUTF8(logging.Cut(path), "\ufffd")), semconv.NetworkProtocolVersion(version(r)))
		a := &answer{ResponseWriter: w, span: span}
		defer a.end(0) // if it panicked
		next(a, r.WithContext(ctx))
		a.end(http.StatusOK) // if nothing was written, or the connection was taken over
	}
}

// Send starts the span of a send that did not come through net/http. done ends it.
func (t *Tracer) Send(traceparent, tracestate []byte) (_ context.Context, done func(status int)) {
	ctx := context.Background()
	if traceparent != nil {
		ctx = t.propagator.Extract(ctx, propagation.MapCarrier{"traceparent": string(traceparent), "tracestate": string(tracestate)})
	}
	ctx, span := t.start(ctx, "send", trace.SpanKindServer, semconv.HTTPRequestMethodPost, semconv.URLScheme("http"),
		semconv.URLPath("/internal/send"), semconv.NetworkProtocolVersion("1.1"))
	return ctx, func(status int) { endServer(span, status) }
}

// method returns the attribute of a method. It has no method that a client made up.
func method(name string) attribute.KeyValue {
	known := []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace,
	}
	if !slices.Contains(known, name) {
		return semconv.HTTPRequestMethodOther
	}
	return semconv.HTTPRequestMethodKey.String(name)
}

func version(r *http.Request) string {
	if r.ProtoMajor == 2 {
		return "2"
	}
	return strconv.Itoa(r.ProtoMajor) + "." + strconv.Itoa(r.ProtoMinor)
}

// endServer ends the span of a request with the status of its answer; 0: there is none.
func endServer(span trace.Span, status int) {
	switch {
	case status == 0:
		span.SetStatus(codes.Error, "")
		span.SetAttributes(semconv.ErrorTypeKey.String("panic"))
	case status >= http.StatusInternalServerError: // the others are the caller's errors
		span.SetStatus(codes.Error, "")
		span.SetAttributes(semconv.ErrorTypeKey.String(strconv.Itoa(status)))
	}
	if status != 0 {
		span.SetAttributes(semconv.HTTPResponseStatusCode(status))
	}
	span.End()
}

// answer ends a span when the answer begins.
type answer struct {
	http.ResponseWriter
	span  trace.Span
	ended bool
}

func (a *answer) end(status int) {
	if !a.ended {
		a.ended = true
		endServer(a.span, status)
	}
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) WriteHeader(status int) {
	a.end(status)
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	a.end(http.StatusOK)
	return a.ResponseWriter.Write(p)
}
