package tracing

import (
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// The variables of traces go before those of all exporters, and an error quotes none.
func TestUploader(t *testing.T) {
	for _, test := range []struct {
		name string
		env  map[string]string
		want string // url, header, gzip, timeout; or the error
	}{
		{"defaults", nil, "http://localhost:4318/v1/traces map[Content-Type:[application/x-protobuf]] false 10s"},
		{
			"all exporters",
			map[string]string{"ENDPOINT": "https://c:1/base/", "HEADERS": "a=b%20c, d = e", "COMPRESSION": "gzip", "TIMEOUT": "1500"},
			"https://c:1/base/v1/traces map[A:[b c] Content-Encoding:[gzip] Content-Type:[application/x-protobuf] D:[e]] true 1.5s",
		},
		{
			"traces",
			map[string]string{"TRACES_ENDPOINT": "http://t/x", "ENDPOINT": "http://c", "TRACES_COMPRESSION": "none", "COMPRESSION": "gzip"},
			"http://t/x map[Content-Type:[application/x-protobuf]] false 10s",
		},
		{"no URL", map[string]string{"ENDPOINT": "canary:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT is not valid: must be an http or https URL"},
		{"left out", map[string]string{"TRACES_TIMEOUT": "canary", "COMPRESSION": "canary"}, "http://localhost:4318/v1/traces map[Content-Type:[application/x-protobuf]] false 10s"},
		{"no header", map[string]string{"HEADERS": "canary"}, "OTEL_EXPORTER_OTLP_HEADERS is not valid: must be name=value, with commas between and values URL-encoded"},
		{"no certificates", map[string]string{"CERTIFICATE": "/dev/null"}, "OTEL_EXPORTER_OTLP_CERTIFICATE is not usable: must name a file of certificates in PEM form"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, value := range test.env {
				t.Setenv("OTEL_EXPORTER_OTLP_"+name, value)
			}
			var got string
			if u, err := newUploader(slog.New(slog.DiscardHandler)); err != nil {
				got = err.Error()
			} else {
				got = strings.Join([]string{u.url, headerText(u.header), map[bool]string{true: "true", false: "false"}[u.gzip], u.timeout.String()}, " ")
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func headerText(h http.Header) string {
	var b strings.Builder
	for _, name := range []string{"A", "Content-Encoding", "Content-Type", "D"} {
		if values, ok := h[name]; ok {
			b.WriteString(" " + name + ":[" + strings.Join(values, " ") + "]")
		}
	}
	return "map[" + strings.TrimSpace(b.String()) + "]"
}

// What a collector does not take for now is sent again, when it asks for that. What it refuses is not.
func TestUpload(t *testing.T) {
	spans := []*tracepb.ResourceSpans{{SchemaUrl: "https://schema"}}
	for _, test := range []struct {
		name     string
		statuses []int
		want     int // attempts
		err      string
	}{
		{"taken", []int{200}, 1, ""},
		{"busy", []int{503, 202}, 2, ""},
		{"refused", []int{400}, 1, "the collector of traces answers 400"},
	} {
		t.Run(test.name, func(t *testing.T) {
			attempts := 0
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				in, err := gzip.NewReader(r.Body)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(in)
				var got tracepb.TracesData
				if err != nil || proto.Unmarshal(body, &got) != nil || len(got.GetResourceSpans()) != 1 || got.GetResourceSpans()[0].GetSchemaUrl() != "https://schema" {
					t.Errorf("%v, %v", &got, err)
				}
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(test.statuses[attempts])
				attempts++
			}))
			defer s.Close()
			t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", s.URL)
			t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
			u, err := newUploader(slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if err := u.UploadTraces(t.Context(), spans); err != nil {
				got = err.Error()
			}
			if attempts != test.want || got != test.err {
				t.Errorf("%d attempts, %q; want %d, %q", attempts, got, test.want, test.err)
			}
		})
	}
}

// A collector that is away costs no longer than the context.
func TestUploadToNobody(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://canary:canary@127.0.0.1:1")
	u, err := newUploader(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := u.UploadTraces(ctx, nil); err == nil || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "does not answer") {
		t.Error(err)
	}
}
