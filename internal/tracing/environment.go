package tracing

import (
	"log/slog"
	"os"
	"strings"

	"go.opentelemetry.io/otel/propagation"
)

// asked reports whether the environment asks for traces
// (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/). newTarget
// reads the exporter's variables, and the SDK the others.
func asked(log *slog.Logger) bool {
	if strings.EqualFold(variable("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	on := variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT") != ""
	if exporters := variable("OTEL_TRACES_EXPORTER"); exporters != "" {
		on = false
		for exporter := range list(exporters) {
			switch exporter {
			case "otlp":
				on = true
			case "none":
			default:
				log.Warn("OTEL_TRACES_EXPORTER has an exporter other than otlp, which is left out", "exporter", exporter)
			}
		}
	}
	if protocol := exporterVariable("PROTOCOL"); on && protocol != "" && protocol != "http/protobuf" {
		log.Error("no traces: OTEL_EXPORTER_OTLP_PROTOCOL is not http/protobuf, and nothing else is spoken here; collectors take that at port 4318")
		return false
	}
	return on
}

// propagator returns what OTEL_PROPAGATORS asks for: W3C trace context, or nothing.
func propagator(log *slog.Logger) propagation.TextMapPropagator {
	names := variable("OTEL_PROPAGATORS")
	if names == "" {
		return propagation.TraceContext{}
	}
	var chosen []propagation.TextMapPropagator
	for name := range list(names) {
		switch name {
		case "tracecontext":
			chosen = append(chosen, propagation.TraceContext{})
		case "none":
		default:
			log.Warn("OTEL_PROPAGATORS has a propagator other than tracecontext, which is left out", "propagator", name)
		}
	}
	return propagation.NewCompositeTextMapPropagator(chosen...)
}

// variable returns the first of some environment variables that is not empty.
func variable(names ...string) string {
	for _, name := range names {
		if value := strings.TrimSpace(os.Getenv(name)); value != "" {
			return value
		}
	}
	return ""
}

// list returns the parts of a list that commas separate.
func list(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" && !yield(part) {
				return
			}
		}
	}
}
