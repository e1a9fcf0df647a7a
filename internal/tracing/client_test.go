package tracing

import (
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"ssegateway/internal/bubble"
)

var spans = []*tracepb.ResourceSpans{{ScopeSpans: []*tracepb.ScopeSpans{{Spans: []*tracepb.Span{{Name: "connect"}}}}}}

// roundTripper answers requests without a network, so that synctest's clock runs.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// An upload is tried again when the collector asks for it, after the time it names or longer and longer
// ones, and within the timeout; otherwise it is given up at once.
func TestRetry(t *testing.T) {
	type attempts = []time.Duration
	for name, c := range map[string]struct {
		answers    []int
		retryAfter string
		exact      attempts // when they are made, with Retry-After
		waits      attempts // without it: the longest wait before each; the shortest is half of that
		failed     string
	}{
		"taken":                   {answers: []int{200}, exact: attempts{0}},
		"202":                     {answers: []int{202}, exact: attempts{0}},
		"400":                     {answers: []int{400}, exact: attempts{0}, failed: "400"},
		"500":                     {answers: []int{500}, exact: attempts{0}, failed: "500"},
		"seconds":                 {answers: []int{429, 503, 200}, retryAfter: "3", exact: attempts{0, 3 * time.Second, 6 * time.Second}},
		"a date":                  {answers: []int{503, 200}, retryAfter: "Sat, 01 Jan 2000 00:00:04 GMT", exact: attempts{0, 4 * time.Second}},
		"a date gone by":          {answers: []int{503, 200}, retryAfter: "Fri, 31 Dec 1999 00:00:00 GMT", exact: attempts{0, minWait}},
		"longer than the timeout": {answers: []int{503}, retryAfter: "10", exact: attempts{0}, failed: "503"},
		"a date too late":         {answers: []int{503}, retryAfter: "Sat, 01 Jan 2000 00:00:11 GMT", exact: attempts{0}, failed: "503"},
		"each of them":            {answers: []int{429, 502, 503, 504, 200}, waits: attempts{0, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second}},
		"not a time":              {answers: []int{502, 200}, retryAfter: "soon", waits: attempts{0, 500 * time.Millisecond}},
		"then another error":      {answers: []int{502, 404}, retryAfter: "1", exact: attempts{0, time.Second}, failed: "404"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				start := time.Now()
				var made attempts
				err := upload(t, func(_ *http.Request, w http.ResponseWriter) {
					made = append(made, time.Since(start))
					w.Header().Set("Retry-After", c.retryAfter)
					w.WriteHeader(c.answers[len(made)-1])
				})
				if (err != nil) != (c.failed != "") || err != nil && !strings.Contains(err.Error(), c.failed) {
					t.Errorf("error %v, want %q", err, c.failed)
				}
				if end := time.Since(start); len(made) > 0 && end != made[len(made)-1] {
					t.Errorf("given up after %v, not at once", end)
				}
				if c.exact != nil && !slices.Equal(made, c.exact) || len(made) != len(c.answers) {
					t.Fatalf("attempts at %v, want %v", made, c.exact)
				}
				for i := 1; i < len(c.waits); i++ {
					if wait := made[i] - made[i-1]; wait < c.waits[i]/2 || wait > c.waits[i] {
						t.Errorf("attempts at %v, want them after at most %v", made, c.waits)
					}
				}
			})
		})
	}
}

// A collector that is never ready, or never answers, is given up at the timeout.
func TestTimeout(t *testing.T) {
	for name, answer := range map[string]func(*http.Request, http.ResponseWriter){
		"503":       func(_ *http.Request, w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
		"no answer": func(r *http.Request, _ http.ResponseWriter) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				start := time.Now()
				err := upload(t, answer)
				if took := time.Since(start); err == nil || took < 5*time.Second || took > 10*time.Second {
					t.Errorf("gave up after %v: %v", took, err)
				}
			})
		})
	}
}

// upload sends spans to a collector that answers so, within 10 s.
func upload(t *testing.T, answer func(*http.Request, http.ResponseWriter)) error {
	t.Helper()
	c := newClient(target{url: &url.URL{Scheme: "http", Host: "collector"}, header: http.Header{}, timeout: 10 * time.Second})
	c.http.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		if body, err := io.ReadAll(r.Body); err != nil || len(body) == 0 {
			t.Errorf("an attempt with body %q: %v", body, err)
		}
		w := httptest.NewRecorder()
		answer(r, w)
		if err := r.Context().Err(); err != nil {
			return nil, err
		}
		return w.Result(), nil
	})
	return c.UploadTraces(t.Context(), spans)
}

// What is uploaded is a request of OTLP, compressed if that is asked for, with the headers that are set.
func TestRequest(t *testing.T) {
	for name, compressed := range map[string]bool{"none": false, "gzip": true} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				body := io.Reader(r.Body)
				if compressed {
					var err error
					if body, err = gzip.NewReader(r.Body); err != nil {
						t.Error(err)
						return
					}
				}
				text, err := io.ReadAll(body)
				var got collectorpb.ExportTraceServiceRequest
				if err != nil || proto.Unmarshal(text, &got) != nil || !proto.Equal(&got, &collectorpb.ExportTraceServiceRequest{ResourceSpans: spans}) {
					t.Errorf("got %v: %v", &got, err)
				}
				if r.Method != http.MethodPost || r.Header.Get("X-Key") != "1" || r.Header.Get("Content-Type") != "application/x-protobuf" || (r.Header.Get("Content-Encoding") == "gzip") != compressed {
					t.Errorf("%s with %v", r.Method, r.Header)
				}
			}))
			defer server.Close()
			u, err := url.Parse(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			c := newClient(target{url: u, header: http.Header{"X-Key": {"1"}}, timeout: 10 * time.Second, gzip: compressed})
			defer c.http.CloseIdleConnections()
			if err := c.UploadTraces(context.Background(), spans); err != nil {
				t.Error(err)
			}
		})
	}
}

// An error does not quote the URL, which may hold a secret.
func TestErrorWithoutURL(t *testing.T) {
	c := newClient(target{url: &url.URL{Scheme: "http", Host: "127.0.0.1:0", Path: "/" + secret}, header: http.Header{}, timeout: 10 * time.Second})
	if err := c.UploadTraces(t.Context(), spans); err == nil || strings.Contains(err.Error(), secret) {
		t.Error(err)
	}
}
