package tracing

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// client uploads spans by OTLP over HTTP. It is an otlptrace.Client. OpenTelemetry's own links all of gRPC.
type client struct {
	target

	http *http.Client
}

func newClient(t target) *client {
	return &client{target: t, http: &http.Client{Transport: &http.Transport{ // an upload's timeout covers all of it
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: t.tls, ForceAttemptHTTP2: true, IdleConnTimeout: 90 * time.Second,
	}}}
}

func (c *client) Start(context.Context) error { return nil }

// Stop is called after the last upload.
func (c *client) Stop(context.Context) error {
	c.http.CloseIdleConnections()
	return nil
}

// The first wait between two attempts, and the longest, if the collector names none; and the one if it names 0.
const (
	firstWait = 500 * time.Millisecond
	maxWait   = 5 * time.Second
	minWait   = 100 * time.Millisecond
)

// UploadTraces sends spans. It tries again as long as the collector asks for that and time is left.
func (c *client) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	// TracesData is an ExportTraceServiceRequest on the wire, and its package comes without gRPC.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return err
	}
	if c.gzip {
		body = compress(body)
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	for backoff := firstWait; ; backoff = min(2*backoff, maxWait) {
		again, after, err := c.post(ctx, body)
		if !again {
			return err
		}
		if after == 0 {
			after = minWait
		} else if after < 0 {
			after = backoff/2 + rand.N(backoff/2) //nolint:gosec // not for secrets
		}
		if deadline, _ := ctx.Deadline(); time.Until(deadline) <= after {
			return err
		}
		select {
		case <-time.After(after):
		case <-ctx.Done():
			return err
		}
	}
}

// post makes one attempt. It reports whether the collector asks for another one, and after how long: below 0, it does not say.
func (c *client) post(ctx context.Context, body []byte) (again bool, after time.Duration, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url.String(), bytes.NewReader(body))
	if err != nil {
		return false, 0, errors.New("the collector's URL is not usable")
	}
	r.Header = c.header.Clone()
	r.Header.Set("Content-Type", "application/x-protobuf")
	if c.gzip {
		r.Header.Set("Content-Encoding", "gzip")
	}
	answer, err := c.http.Do(r)
	if err != nil {
		if of, ok := errors.AsType[*url.Error](err); ok { // it quotes the URL, which may hold a secret
			err = of.Err
		}
		return false, 0, err
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, 64<<10) // so that the connection can be used again
	if answer.StatusCode/100 == 2 {
		return false, 0, nil
	}
	err = fmt.Errorf("the collector answered %d", answer.StatusCode)
	switch answer.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true, retryAfter(answer.Header.Get("Retry-After")), err
	}
	return false, 0, err
}

// retryAfter returns how long to wait, or a time below 0 if the field is missing or not valid.
func retryAfter(field string) time.Duration {
	if seconds, err := strconv.ParseUint(field, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(field); err == nil {
		return max(0, time.Until(at))
	}
	return -1
}

func compress(body []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(body) // a Buffer takes everything
	_ = w.Close()
	return b.Bytes()
}
