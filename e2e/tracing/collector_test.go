package tracing

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"ssegateway/e2e/harness"
)

// span is a span as the collector got it.
type span struct {
	name, trace, id, parent string // the ids in hexadecimal
	kind                    tracepb.Span_SpanKind
	failed                  bool
	attributes, resource    map[string]string
	state                   string // tracestate
	length                  time.Duration
}

// collector receives spans, as a collector of OpenTelemetry does.
type collector struct {
	url  string
	hang chan struct{} // once closed, requests that were held up are answered; nil: none is held up

	mu       sync.Mutex
	accepted int // connections
	bodies   [][]byte
	header   http.Header // of the last request
	spans    []span
}

// startCollector runs a collector until the end of the test. One that hangs takes requests and does not answer them.
func startCollector(t *testing.T, hangs bool) *collector {
	t.Helper()
	c := &collector{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.take(r); err != nil {
			t.Error(err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if c.hang != nil {
			<-c.hang
		}
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.accepted++
		}
	}
	if hangs {
		c.hang = make(chan struct{})
	}
	server.Start()
	c.url = server.URL
	t.Cleanup(func() { // after the gateway has ended
		if hangs {
			close(c.hang)
		}
		server.Close()
		for _, body := range c.bodies {
			if bytes.Contains(body, []byte(canary)) {
				t.Errorf("a secret was exported: %q", body)
			}
		}
	})
	return c
}

func (c *collector) take(r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil // the gateway has broken it off
	}
	var request collectorpb.ExportTraceServiceRequest
	if err := proto.Unmarshal(body, &request); err != nil {
		return err
	}
	if r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		return fmt.Errorf("a request to %s with %s", r.URL, r.Header)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bodies, c.header = append(c.bodies, body), r.Header
	for _, of := range request.GetResourceSpans() {
		resource := attributes(of.GetResource().GetAttributes())
		for _, scope := range of.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				c.spans = append(c.spans, span{
					name: s.GetName(), trace: hex.EncodeToString(s.GetTraceId()), id: hex.EncodeToString(s.GetSpanId()), parent: hex.EncodeToString(s.GetParentSpanId()),
					kind: s.GetKind(), failed: s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR, attributes: attributes(s.GetAttributes()), resource: resource,
					state: s.GetTraceState(), length: time.Duration(s.GetEndTimeUnixNano() - s.GetStartTimeUnixNano()),
				})
			}
		}
	}
	return nil
}

func attributes(list []*commonpb.KeyValue) map[string]string {
	m := map[string]string{}
	for _, a := range list {
		switch v := a.GetValue().GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			m[a.GetKey()] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			m[a.GetKey()] = strconv.FormatInt(v.IntValue, 10)
		default:
			m[a.GetKey()] = fmt.Sprint(v)
		}
	}
	return m
}

// find returns the spans so far of that trace ("": of any), with that name.
func (c *collector) find(trace, name string) []span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.spans), func(s span) bool { return trace != "" && s.trace != trace || s.name != name })
}

// await waits for the n-th span of that trace with that name, and returns it.
func (c *collector) await(t *testing.T, n int, trace, name string) span {
	t.Helper()
	deadline := time.After(harness.Patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if found := c.find(trace, name); len(found) >= n {
			return found[n-1]
		}
		select {
		case <-tick.C:
		case <-deadline:
			c.mu.Lock()
			all := slices.Clone(c.spans)
			c.mu.Unlock()
			t.Fatalf("no span %d of %q in trace %q, but %+v", n, name, trace, all)
		}
	}
}

// want compares a span's parent, kind and attributes.
func (s span) want(t *testing.T, parent string, kind tracepb.Span_SpanKind, attributes ...string) {
	t.Helper()
	if s.parent != parent || s.kind != kind {
		t.Errorf("%s: parent %q and kind %v, want %q and %v", s.name, s.parent, s.kind, parent, kind)
	}
	for i := 0; i < len(attributes); i += 2 {
		if got := s.attributes[attributes[i]]; got != attributes[i+1] {
			t.Errorf("%s: %s is %q, want %q", s.name, attributes[i], got, attributes[i+1])
		}
	}
	if s.resource["service.name"] != "ssegateway" || s.resource["service.version"] == "" {
		t.Errorf("%s: of %v", s.name, s.resource)
	}
	for key, value := range s.attributes {
		if strings.ContainsAny(value, "?") {
			t.Errorf("%s: %s has a query string: %q", s.name, key, value)
		}
	}
}

const (
	server   = tracepb.Span_SPAN_KIND_SERVER
	client   = tracepb.Span_SPAN_KIND_CLIENT
	producer = tracepb.Span_SPAN_KIND_PRODUCER
	internal = tracepb.Span_SPAN_KIND_INTERNAL
)
