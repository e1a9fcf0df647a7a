// Package tracing makes OpenTelemetry spans of requests, callbacks and publications, and sends them
// to a collector by OTLP over HTTP. It is off unless the standard environment variables of
// OpenTelemetry ask for it: then there is no Tracer, and those who would use it check for nil.
//
// Spans hold what logs hold, by the same rule: no query string, no header field, no event data.
package tracing

import (
	"context"
	"log/slog"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"ssegateway/internal/logging"
)

const name = "ssegateway"

// Tracer makes spans. Ended spans wait in a queue of limited length; those that find it full are
// dropped, so that a collector that is slow or away holds nothing up.
type Tracer struct {
	log        *slog.Logger
	provider   *sdktrace.TracerProvider
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
}

// New makes a Tracer as the environment asks for it, or returns nil if it does not. What is wrong with
// the environment is logged, and never an error: the gateway runs without traces.
func New(version string, log *slog.Logger) *Tracer {
	if !asked(log) {
		return nil
	}
	// OpenTelemetry has one of each for the whole process.
	failures := logging.Every(time.Minute)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		failures.Log(log, slog.LevelWarn, "spans are lost, or something is wrong with a variable of OpenTelemetry", slog.String("error", logging.Cut(err.Error())))
	}))
	otel.SetLogger(logr.New(complaints{log}))

	ctx := context.Background()
	target, err := newTarget(log)
	if err != nil {
		log.Error("no traces: the variables of OpenTelemetry are not usable", "error", err)
		return nil
	}
	exporter, err := otlptrace.New(ctx, newClient(target))
	if err != nil {
		log.Error("no traces", "error", err)
		return nil
	}
	// Later ones go before earlier ones.
	about, err := resource.New(ctx,
		resource.WithAttributes(semconv.ServiceName(name), semconv.ServiceVersion(version)),
		resource.WithHost(), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil { // about has the rest
		log.Warn("a part of OTEL_RESOURCE_ATTRIBUTES is left out", "error", logging.Cut(err.Error()))
	}
	t := &Tracer{log: log, propagator: propagator(log)}
	t.provider = sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	t.tracer = t.provider.Tracer(name, trace.WithInstrumentationVersion(version), trace.WithSchemaURL(semconv.SchemaURL))
	return t
}

// start starts a span, which the caller has to end.
func (t *Tracer) start(ctx context.Context, name string, kind trace.SpanKind, attributes ...attribute.KeyValue) (context.Context, trace.Span) {
	return t.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(attributes...)) //nolint:spancheck // the caller ends it
}

// Stop sends the spans that are left, until ctx ends.
func (t *Tracer) Stop(ctx context.Context) {
	if err := t.provider.Shutdown(ctx); err != nil {
		t.log.Warn("the last spans were not taken", "error", logging.Cut(err.Error()))
	}
}

// Logger returns a logger that adds the ids of the span to each line of a request whose span is
// sampled: to those that are logged with the request's context.
func (t *Tracer) Logger(log *slog.Logger) *slog.Logger {
	return slog.New(handler{log.Handler()})
}

type handler struct{ slog.Handler }

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsSampled() {
		r.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs)}
}

func (h handler) WithGroup(name string) slog.Handler { return handler{h.Handler.WithGroup(name)} }

// complaints logs what OpenTelemetry's own logger says of variables. Errors and values are left out: they
// quote the variables, which may hold secrets.
type complaints struct{ log *slog.Logger }

func (complaints) Init(logr.RuntimeInfo)            {}
func (complaints) Enabled(int) bool                 { return false } // of Info
func (complaints) Info(int, string, ...any)         {}
func (c complaints) WithValues(...any) logr.LogSink { return c }
func (c complaints) WithName(string) logr.LogSink   { return c }
func (c complaints) Error(_ error, what string, _ ...any) {
	c.log.Warn("a variable of OpenTelemetry is not valid, and left out", "step", what)
}
