package tracing

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// target is where spans are sent, and how.
type target struct {
	url     *url.URL
	header  http.Header
	timeout time.Duration // of an upload, with all its attempts
	gzip    bool
	tls     *tls.Config // nil: Go's own
}

// exporterVariable returns a variable of the exporter. The one for traces goes before the one for all signals.
func exporterVariable(name string) string {
	return variable("OTEL_EXPORTER_OTLP_TRACES_"+name, "OTEL_EXPORTER_OTLP_"+name)
}

// newTarget reads the exporter's variables (https://opentelemetry.io/docs/specs/otel/protocol/exporter/).
// What it can do without is left out with a warning. No message quotes a value, since it may hold a secret.
func newTarget(log *slog.Logger) (target, error) {
	t := target{header: http.Header{}, timeout: 10 * time.Second}
	leftOut := func(name string) {
		log.Warn("a variable of OpenTelemetry is not valid, and left out", "variable", "OTEL_EXPORTER_OTLP_"+name)
	}
	var err error
	if t.url, err = endpoint(); err != nil {
		return t, err
	}
	if t.tls, err = tlsConfig(); err != nil {
		return t, err
	}
	for field := range list(exporterVariable("HEADERS")) {
		key, value, ok := strings.Cut(field, "=")
		key = strings.TrimSpace(key)
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if !ok || err != nil || !httpguts.ValidHeaderFieldName(key) || !httpguts.ValidHeaderFieldValue(value) {
			leftOut("HEADERS")
			continue
		}
		t.header.Set(key, value)
	}
	if text := exporterVariable("TIMEOUT"); text != "" {
		if ms, err := strconv.ParseInt(text, 10, 32); err == nil && ms > 0 {
			t.timeout = time.Duration(ms) * time.Millisecond
		} else {
			leftOut("TIMEOUT")
		}
	}
	switch exporterVariable("COMPRESSION") {
	case "gzip":
		t.gzip = true
	case "", "none":
	default:
		leftOut("COMPRESSION")
	}
	return t, nil
}

func endpoint() (*url.URL, error) {
	text, ofTraces := variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), true
	if text == "" {
		text, ofTraces = variable("OTEL_EXPORTER_OTLP_ENDPOINT"), false
	}
	if text == "" {
		text = "http://localhost:4318"
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("the endpoint is no http or https URL")
	}
	if !ofTraces {
		u = u.JoinPath("v1", "traces")
	}
	return u, nil
}

// tlsConfig returns nil if no variable names a certificate.
func tlsConfig() (*tls.Config, error) {
	ca, cert, key := exporterVariable("CERTIFICATE"), exporterVariable("CLIENT_CERTIFICATE"), exporterVariable("CLIENT_KEY")
	if ca == "" && cert == "" && key == "" {
		return nil, nil //nolint:nilnil // net/http takes nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		text, err := os.ReadFile(ca)
		config.RootCAs = x509.NewCertPool()
		if err != nil || !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, errors.New("OTEL_EXPORTER_OTLP_CERTIFICATE names no readable file with certificates in PEM")
		}
	}
	if cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, errors.New("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY name no readable certificate with its key")
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
