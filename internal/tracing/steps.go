package tracing

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// The gateway's own attributes.
const (
	tokenKey     = attribute.Key("ssegateway.token")
	resultKey    = attribute.Key("ssegateway.result")
	receiversKey = attribute.Key("ssegateway.receivers")
)

// Callbacks are the spans of the callbacks to one URL.
type Callbacks struct {
	tracer *Tracer
	always []attribute.KeyValue
}

// Callbacks makes the Callbacks to a URL, whose query and user information are left out.
func (t *Tracer) Callbacks(rawURL string) *Callbacks {
	attributes := []attribute.KeyValue{semconv.HTTPRequestMethodPost}
	if u, err := url.Parse(rawURL); err == nil { // checked before
		port, err := strconv.Atoi(u.Port())
		switch {
		case err == nil:
		case u.Scheme == "https":
			port = 443
		default:
			port = 80
		}
		shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
		attributes = append(attributes, semconv.URLFull(shown.String()), semconv.ServerAddress(u.Hostname()), semconv.ServerPort(port))
	}
	return &Callbacks{t, slices.Clip(attributes)}
}

// Start starts the span of an attempt of a callback, which may be about no single token. It returns the span's context, the fields that
// pass it on, as lines of the callback's head, and done, which ends it.
func (c *Callbacks) Start(ctx context.Context, action, token string) (_ context.Context, head string, done func(result string, status int)) {
	attributes := c.always
	if token != "" {
		attributes = append(attributes, tokenKey.String(token))
	}
	ctx, span := c.tracer.start(ctx, "callback "+action, trace.SpanKindClient, attributes...)
	carrier := propagation.MapCarrier{}
	c.tracer.propagator.Inject(ctx, carrier)
	var lines strings.Builder
	for name, value := range carrier {
		lines.WriteString(name + ": " + value + "\r\n")
	}
	return ctx, lines.String(), func(result string, status int) {
		span.SetAttributes(resultKey.String(result))
		if status != 0 {
			span.SetAttributes(semconv.HTTPResponseStatusCode(status))
		}
		switch {
		case status == 0:
			span.SetStatus(codes.Error, "")
			span.SetAttributes(semconv.ErrorTypeKey.String(result))
		case status < 200 || status > 299:
			span.SetStatus(codes.Error, "")
			span.SetAttributes(semconv.ErrorTypeKey.String(strconv.Itoa(status)))
		}
		span.End()
	}
}

type withoutSteps struct{}

// WithoutSteps returns a context in which publications have no spans for their steps: a batch may have
// thousands of them, which would drive all other spans out of the queue.
func WithoutSteps(ctx context.Context) context.Context {
	return context.WithValue(ctx, withoutSteps{}, true)
}

func hasSteps(ctx context.Context) bool { return ctx.Value(withoutSteps{}) == nil }

// Appending starts the span of a publication's way into the log, which done ends.
func (t *Tracer) Appending(ctx context.Context, topics []string) (done func(error)) {
	if !hasSteps(ctx) {
		return func(error) {}
	}
	attributes := []attribute.KeyValue{semconv.MessagingSystemKey.String(name), semconv.MessagingOperationName("publish"), semconv.MessagingOperationTypeSend}
	if len(topics) == 1 {
		attributes = append(attributes, semconv.MessagingDestinationName(topics[0]))
	}
	trace.SpanFromContext(ctx).SetAttributes(attributes...)
	_, span := t.start(ctx, "broker append", trace.SpanKindProducer, attributes...)
	return func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, "")
			span.SetAttributes(semconv.ErrorTypeOther)
		}
		span.End()
	}
}

// Delivering starts the span of a publication's way to the connections of this node, which done ends.
func (t *Tracer) Delivering(ctx context.Context) (done func(receivers int)) {
	if !hasSteps(ctx) {
		return func(int) {}
	}
	_, span := t.start(ctx, "write", trace.SpanKindInternal)
	return func(receivers int) {
		span.SetAttributes(receiversKey.Int(receivers))
		span.End()
	}
}
