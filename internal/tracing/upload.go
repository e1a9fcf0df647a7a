package tracing

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// uploader sends spans by OTLP over HTTP, as protobuf. OpenTelemetry's own links all of gRPC, which
// costs a seventh of the program's resident memory, also while nothing is traced.
//
// See https://opentelemetry.io/docs/specs/otlp/#otlphttp and
// https://opentelemetry.io/docs/specs/otel/protocol/exporter/.
type uploader struct {
	url     string
	header  http.Header
	gzip    bool
	timeout time.Duration // of a batch, with all attempts
	client  *http.Client
}

const (
	defaultURL     = "http://localhost:4318/v1/traces"
	defaultTimeout = 10 * time.Second
	// firstPause doubles from one attempt to the next.
	firstPause = time.Second
	maxPause   = 8 * time.Second
)

// newUploader makes an uploader as the environment says. Its errors quote no variable, which may hold secrets.
func newUploader(log *slog.Logger) (*uploader, error) {
	u := &uploader{timeout: defaultTimeout, header: http.Header{"Content-Type": {"application/x-protobuf"}}}
	var err error
	if u.url, err = target(); err != nil {
		return nil, err
	}
	if name, text := setting("TIMEOUT"); text != "" {
		if ms, err := strconv.ParseUint(text, 10, 31); err == nil && ms > 0 {
			u.timeout = time.Duration(ms) * time.Millisecond
		} else {
			log.Warn("a variable of OpenTelemetry is not valid, and left out: must be a whole number of milliseconds from 1", "variable", name)
		}
	}
	switch name, text := setting("COMPRESSION"); text {
	case "", "none":
	case "gzip":
		u.gzip = true
		u.header.Set("Content-Encoding", "gzip")
	default:
		log.Warn("a variable of OpenTelemetry is not valid, and left out: must be gzip or none", "variable", name)
	}
	if name, text := setting("HEADERS"); text != "" {
		for field := range strings.SplitSeq(text, ",") {
			key, value, ok := strings.Cut(field, "=")
			value, err := url.PathUnescape(strings.TrimSpace(value))
			if !ok || err != nil || strings.TrimSpace(key) == "" {
				return nil, errors.New(name + " is not valid: must be name=value, with commas between and values URL-encoded")
			}
			u.header.Set(strings.TrimSpace(key), value)
		}
	}
	config, err := tlsConfig()
	if err != nil {
		return nil, err
	}
	u.client = &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute, MaxIdleConns: 1,
	}}
	return u, nil
}

// setting returns the variable of the exporter of traces, or the one of all exporters, and its name.
func setting(what string) (name, text string) {
	name = "OTEL_EXPORTER_OTLP_TRACES_" + what
	if text = os.Getenv(name); text == "" {
		name = "OTEL_EXPORTER_OTLP_" + what
		text = os.Getenv(name)
	}
	return name, strings.TrimSpace(text)
}

// target returns the URL. That of all exporters gets the path of traces.
func target() (string, error) {
	name, text := setting("ENDPOINT")
	if text == "" {
		return defaultURL, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", errors.New(name + " is not valid: must be an http or https URL")
	}
	if name == "OTEL_EXPORTER_OTLP_ENDPOINT" {
		u = u.JoinPath("v1", "traces")
	}
	return u.String(), nil
}

func tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if name, file := setting("CERTIFICATE"); file != "" {
		text, err := os.ReadFile(file)
		config.RootCAs = x509.NewCertPool()
		if err != nil || !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s is not usable: must name a file of certificates in PEM form", name)
		}
	}
	name, certificate := setting("CLIENT_CERTIFICATE")
	if _, key := setting("CLIENT_KEY"); certificate != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("%s and its key are not usable: %w", name, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// Start implements otlptrace.Client.
func (u *uploader) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (u *uploader) Stop(context.Context) error {
	u.client.CloseIdleConnections()
	return nil
}

// UploadTraces implements otlptrace.Client. It tries again, within the timeout, what a collector does not take for now.
func (u *uploader) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	ctx, cancel := context.WithTimeout(ctx, u.timeout)
	defer cancel()
	// On the wire this is an ExportTraceServiceRequest, whose package links gRPC.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return err
	}
	if u.gzip {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write(body) // to memory
		_ = w.Close()
		body = b.Bytes()
	}
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		again, err := u.post(ctx, body)
		if err == nil || again < 0 {
			return err
		}
		if again == 0 {
			again = pause
		}
		wait := time.NewTimer(again)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return err
		}
	}
}

// post makes one attempt. After an error again says how long to wait before the next one; 0: that is open; below 0: there
// is none.
func (u *uploader) post(ctx context.Context, body []byte) (again time.Duration, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.url, bytes.NewReader(body))
	if err != nil {
		return -1, err
	}
	r.Header = u.header
	resp, err := u.client.Do(r)
	if failed := (*url.Error)(nil); errors.As(err, &failed) {
		err = failed.Err // without the URL, which may hold secrets
	}
	if err != nil {
		return 0, fmt.Errorf("the collector of traces does not answer: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	if resp.StatusCode/100 == 2 {
		return 0, nil
	}
	err = fmt.Errorf("the collector of traces answers %d", resp.StatusCode)
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, _ := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16)
		return time.Duration(seconds) * time.Second, err
	}
	return -1, err
}
