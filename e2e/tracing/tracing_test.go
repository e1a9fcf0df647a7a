package tracing

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// canary is in every secret of these tests. It must be in no span and in no line of a log.
const canary = "s3cr3t"

// site is a gateway that sends its spans to a collector.
type site struct {
	*harness.Gateway
	*collector

	t      *testing.T
	client *http.Client
}

// start runs a gateway whose settings are full of secrets. settings go before its own.
func start(t *testing.T, c *collector, secured *harness.Certificate, settings ...string) *site {
	t.Helper()
	g := harness.StartGateway(t, binary, secured, append([]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.url, "OTEL_BSP_SCHEDULE_DELAY=20", "OTEL_EXPORTER_OTLP_HEADERS=api-key=" + canary,
		"INTERNAL_TOKEN=" + canary, "LOG_LEVEL=debug",
	}, settings...)...)
	s := &site{g, c, t, g.Endpoint.Client()}
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		if text := g.Log.Text(); strings.Contains(text, canary) {
			t.Errorf("a secret was logged:\n%s", text)
		}
	})
	return s
}

// post sends a request of the backend, as a part of a trace, and requires this answer.
func (s *site) post(path, traceparent, body string, status int, part string) {
	s.t.Helper()
	got, answer := call(s.t, s.client, http.MethodPost, urlOf(s.Gateway, path), body,
		"Content-Type", "application/json", "Authorization", "Bearer "+canary, "Traceparent", traceparent, "Tracestate", "vendor=1")
	if got != status || !strings.Contains(answer, part) {
		s.t.Fatalf("%s %s: %d %s, want %d %s", path, body, got, answer, status, part)
	}
}

// open opens a stream as a part of a trace, and returns it and its token.
func (s *site) open(key, traceparent string, answer harness.Answer) (*harness.Exchange, string) {
	s.t.Helper()
	s.Backend.On(key, harness.Script{Connect: func(*harness.Callback) harness.Answer { return answer }})
	x, err := s.Endpoint.Do(s.t.Context(), harness.Request{Target: "/rooms/" + key + "?key=" + canary, Header: []harness.Field{
		{Name: "accept", Value: "text/event-stream"},
		{Name: harness.KeyHeader, Value: key},
		{Name: "traceparent", Value: traceparent},
		{Name: "tracestate", Value: "vendor=1"},
		{Name: "cookie", Value: "session=" + canary},
		{Name: "authorization", Value: "Bearer " + canary},
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(x.HangUp)
	if _, err := x.Head(harness.Patience); err != nil {
		s.t.Fatal(err)
	}
	return x, s.callback("connect", key).Token
}

func (s *site) callback(action, key string) *harness.Callback {
	s.t.Helper()
	return s.Await(s.t, 1, action, func(c *harness.Callback) bool { return c.Key == key })[0]
}

// wantLine waits for a line of the log that has all of these.
func (s *site) wantLine(parts ...string) {
	s.t.Helper()
	patterns := make([]*regexp.Regexp, 0, len(parts))
	for _, p := range parts {
		patterns = append(patterns, regexp.MustCompile(regexp.QuoteMeta(p)))
	}
	if _, ok := s.Log.Find(harness.Patience, patterns...); !ok {
		s.t.Errorf("no line with %q in\n%s", parts, s.Log.Text())
	}
}

var traces atomic.Uint32

// newTrace returns the id of a trace, the id of its first span, and both as a traceparent.
func newTrace(flags string) (trace, parent, traceparent string) {
	n := traces.Add(1)
	trace, parent = fmt.Sprintf("%032x", 0xabc000+n), fmt.Sprintf("%016x", 0xdef000+n)
	return trace, parent, "00-" + trace + "-" + parent + "-" + flags
}

// traceparent returns what passes a span on.
func (s span) traceparent() string { return "00-" + s.trace + "-" + s.id + "-01" }

// TestConnection: the spans of a connection belong to the client's trace, are there while the stream is
// open, and are passed on to the backend in the callbacks' own headers.
func TestConnection(t *testing.T) {
	for protocol, secured := range map[string]*harness.Certificate{"HTTP1": nil, "HTTP2": cert} {
		t.Run(protocol, func(t *testing.T) {
			c := startCollector(t, false)
			s := start(t, c, secured)
			trace, parent, traceparent := newTrace("01")
			x, token := s.open("a", traceparent, harness.Answer{Body: `{"subject":"` + canary + `"}`})

			connect := c.await(t, 1, trace, "connect")
			scheme, version := "http", "1.1"
			if secured != nil {
				scheme, version = "https", "2"
			}
			connect.want(t, parent, server, "http.request.method", "GET", "url.path", "/rooms/a", "url.scheme", scheme,
				"network.protocol.version", version, "http.response.status_code", "200")
			if connect.failed || connect.state != "vendor=1" {
				t.Errorf("%+v", connect)
			}
			asked := c.await(t, 1, trace, "callback connect")
			asked.want(t, connect.id, client, "http.request.method", "POST", "url.full", s.Backend.URL("/callback"), "server.address", "127.0.0.1",
				"server.port", fmt.Sprint(s.Backend.Port), "http.response.status_code", "200", "ssegateway.token", token, "ssegateway.result", "accepted")
			got := s.callback("connect", "a")
			if got.Header.Get("Traceparent") != asked.traceparent() || got.Header.Get("Tracestate") != "vendor=1" {
				t.Errorf("the callback got %v, want %s", got.Header, asked.traceparent())
			}
			if got.Headers["traceparent"] != traceparent {
				t.Errorf("the client's traceparent is %q in the callback's body, want %q", got.Headers["traceparent"], traceparent)
			}
			s.wantLine("] connect token="+token, "trace_id="+trace, "span_id="+connect.id)
			s.wantLine("] callback action=connect", "trace_id="+trace, "span_id="+asked.id)

			x.HangUp()
			told := c.await(t, 1, "", "callback disconnect")
			told.want(t, "", client, "http.response.status_code", "200", "ssegateway.token", token, "ssegateway.result", "delivered")
			if got := s.callback("disconnect", "a").Header.Get("Traceparent"); got != told.traceparent() || told.trace == trace {
				t.Errorf("the disconnect got %q, want that of %+v", got, told)
			}
			if n := len(c.find(trace, "connect")); n != 1 {
				t.Errorf("%d spans for one connect", n)
			}
		})
	}
}

// TestRefusals: the span of a refused connect has the status of the answer, and is an error if the gateway is to blame.
func TestRefusals(t *testing.T) {
	c := startCollector(t, false)
	s := start(t, c, nil)
	for i, test := range []struct {
		answer harness.Answer
		status string
		failed bool
		result string
	}{
		{harness.Answer{Status: 403, Body: canary}, "403", false, "refused"},
		{harness.Answer{Status: 500}, "500", true, "refused"},
		{harness.Answer{Drop: true}, "503", true, "unanswered"},
	} {
		trace, parent, traceparent := newTrace("01")
		s.open(fmt.Sprint("refused", i), traceparent, test.answer)
		connect := c.await(t, 1, trace, "connect")
		connect.want(t, parent, server, "http.response.status_code", test.status)
		asked := c.await(t, 1, trace, "callback connect")
		asked.want(t, connect.id, client, "ssegateway.result", test.result)
		if connect.failed != test.failed || !asked.failed {
			t.Errorf("%+v: %+v, %+v", test, connect, asked)
		}
	}
}

// TestRequests: whatever sends has a span of the caller's trace, also on a connection whose sends take the short
// cut, and one that the caller does not sample has none.
func TestRequests(t *testing.T) {
	for protocol, secured := range map[string]*harness.Certificate{"HTTP1": nil, "HTTP2": cert} {
		t.Run(protocol, func(t *testing.T) {
			c := startCollector(t, false)
			s := start(t, c, secured)
			trace, parent, traceparent := newTrace("01")
			_, token := s.open("a", traceparent, harness.Answer{Body: `{"topics":["room.7"]}`})
			event, err := json.Marshal(map[string]any{"name": "n", "data": canary})
			if err != nil {
				t.Fatal(err)
			}
			send := fmt.Sprintf(`{"token":%q,"event":%s}`, token, event)
			const path, status = "url.path", "http.response.status_code"

			for n := 1; n <= 3; n++ { // the connection is taken over with the second
				s.post("/internal/send", traceparent, send, 200, "ok")
				c.await(t, n, trace, "send").want(t, parent, server, "http.request.method", "POST", path, "/internal/send", status, "200")
			}
			s.wantLine("] send token="+token, "trace_id="+trace, "span_id="+c.find(trace, "send")[2].id)
			s.post("/internal/send", traceparent, strings.Replace(send, "{", `{"wait":"written",`, 1), 200, "written")
			c.await(t, 4, trace, "send").want(t, parent, server, path, "/internal/send", status, "200")
			s.post("/internal/send", traceparent, `{"token":"x"}`, 404, "TOKEN_NOT_FOUND")
			c.await(t, 5, trace, "send").want(t, parent, server, status, "404")

			_, _, unsampled := newTrace("00")
			s.post("/internal/send", unsampled, send, 200, "ok")
			s.post("/internal/send", "00-nonsense-01", send, 200, "ok")
			s.post("/internal/batch", traceparent, `{"operations":[`+send+`,{"topic":"room.7","event":{"data":"x"}}]}`, 200, "receivers")
			c.await(t, 1, trace, "batch").want(t, parent, server, path, "/internal/batch", status, "200")
			target := "/internal/connections/" + token + "/stream"
			if got, answer := call(t, s.client, http.MethodPost, urlOf(s.Gateway, target+"?coalesce_ms=10"), "data: "+canary+"\n\n",
				"Content-Type", "text/event-stream", "Authorization", "Bearer "+canary, "Traceparent", traceparent); got != 200 {
				t.Fatal(got, answer)
			}
			c.await(t, 1, trace, "stream").want(t, parent, server, path, target, status, "200")

			var roots []span
			for _, of := range c.find("", "send") {
				if of.trace != trace {
					roots = append(roots, of)
				}
			}
			if len(roots) != 1 || roots[0].parent != "" { // that of the nonsense
				t.Errorf("further spans: %+v", roots)
			}
			if n := len(c.find("", "broker append")) + len(c.find("", "write")); n > 0 {
				t.Errorf("%d spans for the steps of a batch", n)
			}
		})
	}
}

// TestPublish: a publish has spans for its way into the log and for the whole of its delivery.
func TestPublish(t *testing.T) {
	c := startCollector(t, false)
	s := start(t, c, nil)
	for _, key := range []string{"a", "b"} {
		_, _, traceparent := newTrace("01")
		s.open(key, traceparent, harness.Answer{Body: `{"topics":["room.7"]}`})
	}
	trace, parent, traceparent := newTrace("01")
	s.post("/internal/publish", traceparent, `{"topic":"room.7","event":{"data":"`+canary+`"}}`, 200, `"receivers":2`)
	publish := c.await(t, 1, trace, "publish")
	names := []string{"messaging.system", "ssegateway", "messaging.operation.name", "publish", "messaging.operation.type", "send", "messaging.destination.name", "room.7"}
	publish.want(t, parent, server, append(names, "http.response.status_code", "200", "url.path", "/internal/publish")...)
	c.await(t, 1, trace, "broker append").want(t, publish.id, producer, names...)
	c.await(t, 1, trace, "write").want(t, publish.id, internal, "ssegateway.receivers", "2")
	s.wantLine("] publish topics=1", "trace_id="+trace, "span_id="+publish.id)

	trace, _, traceparent = newTrace("01")
	s.post("/internal/publish", traceparent, `{"topics":["room.7","room.8"],"event":{"data":"x"}}`, 200, `"receivers":2`)
	c.await(t, 1, trace, "publish").want(t, c.find(trace, "publish")[0].parent, server, "messaging.destination.name", "")
	if n := len(c.find(trace, "write")); n > 1 {
		t.Errorf("%d spans for one delivery", n)
	}
}

// TestEnvironment: the variables of OpenTelemetry's specification are followed, and what they hold is not logged.
func TestEnvironment(t *testing.T) {
	c := startCollector(t, false)
	s := start(t, c, nil, "OTEL_SERVICE_NAME=ssegateway", "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test",
		"OTEL_TRACES_SAMPLER=always_off", "OTEL_PROPAGATORS=tracecontext,baggage", "OTEL_EXPORTER_OTLP_TIMEOUT="+canary)
	s.wantLine("[WARN]", "baggage")
	s.wantLine("[WARN]", "a variable of OpenTelemetry is not valid")
	_, _, traceparent := newTrace("01")
	s.open("a", traceparent, harness.Answer{})
	if got := s.callback("connect", "a").Header.Get("Traceparent"); !strings.HasSuffix(got, "-00") {
		t.Errorf("the callback got %q, want one that is not sampled", got)
	}
	if strings.Contains(s.Log.Text(), "trace_id") {
		t.Errorf("ids of spans that are not sampled:\n%s", s.Log.Text())
	}

	s = start(t, c, nil, "OTEL_TRACES_EXPORTER=otlp", "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test", "OTEL_PROPAGATORS=none")
	s.open("b", traceparent, harness.Answer{})
	connect := c.await(t, 1, "", "connect")
	connect.want(t, "", server)
	if connect.resource["deployment.environment.name"] != "test" || c.header.Get("Api-Key") != canary {
		t.Errorf("%+v, %v", connect, c.header)
	}
	if got := s.callback("connect", "b").Header.Get("Traceparent"); got != "" {
		t.Errorf("the callback got %q", got)
	}
}

// TestOff: without being asked, or asked not to, the gateway makes no spans and no connection to a collector.
func TestOff(t *testing.T) {
	for name, settings := range map[string][]string{
		"not asked":     {"OTEL_EXPORTER_OTLP_ENDPOINT="},
		"disabled":      {"OTEL_SDK_DISABLED=True", "OTEL_TRACES_EXPORTER=otlp"},
		"no exporter":   {"OTEL_TRACES_EXPORTER=none"},
		"another":       {"OTEL_TRACES_EXPORTER=console"},
		"another's way": {"OTEL_EXPORTER_OTLP_PROTOCOL=grpc"},
	} {
		t.Run(name, func(t *testing.T) {
			c := startCollector(t, false)
			s := start(t, c, nil, settings...)
			_, _, traceparent := newTrace("01")
			x, token := s.open("a", traceparent, harness.Answer{})
			for range 3 {
				s.post("/internal/send", traceparent, fmt.Sprintf(`{"token":%q,"event":{"data":"x"}}`, token), 200, "ok")
			}
			x.HangUp()
			s.callback("disconnect", "a")
			if got := s.callback("connect", "a").Header.Get("Traceparent"); got != "" {
				t.Errorf("the callback got %q", got)
			}
			if code, err := s.Stop(harness.Patience); code != 0 || err != nil {
				t.Errorf("%d %v", code, err)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.accepted > 0 || strings.Contains(s.Log.Text(), "trace_id") {
				t.Errorf("%d connections to the collector; the log:\n%s", c.accepted, s.Log.Text())
			}
		})
	}
}

// TestCollectorHangs: with a collector that takes requests and does not answer, far more spans than the
// queue holds slow nothing down, and the process ends within its time.
func TestCollectorHangs(t *testing.T) {
	c := startCollector(t, true)
	s := start(t, c, nil, "LOG_LEVEL=info")
	_, _, traceparent := newTrace("01")
	_, token := s.open("a", traceparent, harness.Answer{})
	body := fmt.Sprintf(`{"token":%q,"event":{"data":"x"}}`, token)
	const sends, queue = 8000, 2048 + 512
	begin := time.Now()
	for range sends {
		s.post("/internal/send", traceparent, body, 200, "ok")
	}
	took := time.Since(begin)
	t.Logf("%d sends took %v", sends, took)
	if took > harness.Patience || len(c.find("", "send")) > queue {
		t.Errorf("%d sends took %v, and %d spans were taken", sends, took, len(c.find("", "send")))
	}
	begin = time.Now()
	if code, err := s.Stop(harness.Patience); code != 0 || err != nil {
		t.Errorf("%d %v", code, err)
	}
	took = time.Since(begin)
	t.Logf("the end took %v", took)
	if took > 4500*time.Millisecond {
		t.Errorf("the end took %v", took)
	}
	s.wantLine("[WARN] the last spans were not taken")
	if len(c.bodies) == 0 {
		t.Error("the collector got nothing: the test is blind")
	}
}

// TestLastSpans: the spans that wait when the process is told to end are sent before it ends.
func TestLastSpans(t *testing.T) {
	c := startCollector(t, false)
	s := start(t, c, nil, "OTEL_BSP_SCHEDULE_DELAY=600000")
	trace, _, traceparent := newTrace("01")
	s.open("a", traceparent, harness.Answer{})
	if code, err := s.Stop(harness.Patience); code != 0 || err != nil {
		t.Errorf("%d %v", code, err)
	}
	c.await(t, 1, trace, "connect")
	c.await(t, 1, "", "callback disconnect").want(t, "", client, "ssegateway.result", "delivered")
}

// TestCollectorAway: a collector that is not there is a warning a minute, and nothing else.
func TestCollectorAway(t *testing.T) {
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, &collector{url: fmt.Sprintf("http://127.0.0.1:%d", port)}, nil, "OTEL_EXPORTER_OTLP_ENDPOINT="+fmt.Sprintf("http://u:%s@127.0.0.1:%d/?%s", canary, port, canary))
	_, _, traceparent := newTrace("01")
	_, token := s.open("a", traceparent, harness.Answer{})
	const warning = "[WARN] spans are lost"
	s.wantLine(warning)
	for range 100 {
		s.post("/internal/send", traceparent, fmt.Sprintf(`{"token":%q,"event":{"data":"x"}}`, token), 200, "ok")
	}
	if n := strings.Count(s.Log.Text(), warning); n != 1 {
		t.Errorf("%d warnings:\n%s", n, s.Log.Text())
	}
}
