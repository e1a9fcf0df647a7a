//go:build linux && !portable

package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// BenchmarkTraced is a send on a connection that was taken over, and a stream from its connect to the
// callback about its end: without a Tracer, with one for a caller that does not sample, and with spans.
// The collector is in the same process: the time includes it.
func BenchmarkTraced(b *testing.B) {
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	b.Cleanup(collector.Close)
	const traceparent = "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"
	for _, mode := range []struct{ name, endpoint, field string }{
		{"off", "", traceparent + "1"},
		{"unsampled", collector.URL, traceparent + "0"},
		{"sampled", collector.URL, traceparent + "1"},
	} {
		b.Run("send/"+mode.name, func(b *testing.B) {
			b.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", mode.endpoint)
			r := start(b, nil)
			events, token := r.stream()
			go func() { _, _ = io.Copy(io.Discard, events.in) }()
			c := r.dial()
			text := request(event(token, strings.Repeat("x", 256)), mode.field)
			b.ReportAllocs()
			for b.Loop() {
				c.write(text)
				if status, body := c.answer(); status != http.StatusOK {
					b.Fatal(status, body)
				}
			}
		})
		b.Run("stream/"+mode.name, func(b *testing.B) {
			b.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", mode.endpoint)
			r := start(b, nil)
			text := "GET /events HTTP/1.1\r\nHost: x\r\n" + mode.field + "\r\n\r\n"
			b.ReportAllocs()
			for b.Loop() {
				c := r.dial()
				c.write(text)
				resp, err := http.ReadResponse(c.in, nil) //nolint:bodyclose // it ends with its connection
				if err != nil || resp.StatusCode != http.StatusOK {
					b.Fatal(resp, err)
				}
				<-r.tokens
				_ = c.Close()
				<-r.ends
			}
		})
	}
}
