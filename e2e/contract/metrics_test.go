package contract

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"ssegateway/e2e/harness"
)

// wantMetrics wants these lines in the metrics.
func (s *Site) wantMetrics(lines ...string) {
	s.t.Helper()
	got := s.Call(http.MethodGet, "/metrics", "")
	for _, line := range lines {
		if !strings.Contains("\n"+got.Body, "\n"+line+"\n") {
			name, _, _ := strings.Cut(line, " ")
			name, _, _ = strings.Cut(name, "{")
			s.t.Errorf("no line %q; there is %q", line, regexp.MustCompile(`(?m)^`+name+`\b.*$`).FindAllString(got.Body, -1))
		}
	}
}

var metrics = section{title: "6 metrics", cases: []contractCase{
	{name: "every series is there from the start, and there are few", run: func(t *T) {
		s := t.Start("MAX_CONNECTIONS=17")
		s.wantMetrics(
			"ssegateway_ready 1",
			"ssegateway_max_connections 17",
			`ssegateway_streams_refused_total{cause="max_connections"} 0`,
			`ssegateway_streams_refused_total{cause="not_ready"} 0`,
			`ssegateway_callbacks_total{action="connect",result="timeout"} 0`,
			`ssegateway_callbacks_total{action="disconnect",result="given_up"} 0`,
			`ssegateway_callback_duration_seconds_count{action="connect"} 0`,
			"ssegateway_disconnects_pending 0",
			`ssegateway_connect_callbacks{state="asking"} 0`,
			`ssegateway_connect_callbacks{state="waiting"} 0`,
			`ssegateway_publishes_total{result="failed"} 0`,
			"ssegateway_topic_log_events 0",
			"ssegateway_resumes_total 0",
			"ssegateway_gaps_total 0",
		)
		body := s.Call(http.MethodGet, "/metrics", "").Body
		if !regexp.MustCompile(`(?m)^ssegateway_build_info\{go_version="go[^"]+",version="[^"]+"\} 1$`).MatchString(body) {
			t.Error("no ssegateway_build_info")
		}
		series := 0
		for line := range strings.Lines(body) {
			if !strings.HasPrefix(line, "#") {
				series++
			}
		}
		if series > 250 {
			t.Errorf("%d series, want at most 250", series)
		}
		expiry := regexp.MustCompile(`(?m)^ssegateway_tls_certificate_expiry_timestamp_seconds (\S+)$`).FindStringSubmatch(body)
		if secure := s.endpoint.Scheme() == "https"; (expiry != nil) != secure {
			t.Errorf("TLS %t, expiry of the certificate %q", secure, expiry)
		} else if secure {
			var at float64
			if _, err := fmt.Sscan(expiry[1], &at); err != nil || time.Unix(int64(at), 0).Before(time.Now()) {
				t.Errorf("the certificate expires at %v (%v)", at, err)
			}
		}
	}},
	{name: "streams that are refused, publishes, the log, who came back and who missed something", run: func(t *T) {
		s := t.Start("MAX_CONNECTIONS=1")
		topic := NewTopic()
		grant := granting(encode(object{"topics": []string{topic}}))
		x := s.OpenWith(harness.Request{Target: "/"}, grant)
		s.Begin(harness.Request{Target: "/"}, harness.Script{}).WantHead()
		s.Publish(object{"topic": topic, "event": object{"data": "a"}}, 1)
		s.Call(http.MethodPost, "/internal/publish", `{}`, "Content-Type", "application/json")
		s.Call(http.MethodPost, "/internal/batch", `{"operations":[{"topic":""}]}`, "Content-Type", "application/json")
		last := x.NextEvent().ID.String()
		s.wantMetrics(
			`ssegateway_streams_refused_total{cause="max_connections"} 1`,
			`ssegateway_publishes_total{result="ok"} 1`,
			`ssegateway_publishes_total{result="invalid"} 2`,
			"ssegateway_topic_log_events 1",
		)
		for _, id := range []string{last, "no-position"} {
			x.Leave()
			x.WantDisconnect("client_closed")
			x = s.OpenWith(harness.Request{Target: "/", Header: []harness.Field{{Name: "Last-Event-ID", Value: id}}}, grant)
		}
		s.wantMetrics("ssegateway_resumes_total 2", "ssegateway_gaps_total 1")
	}},
	{name: "connect callbacks that are under way, and those that wait for their turn", run: func(t *T) {
		s := t.Start("CALLBACK_CONCURRENCY=1")
		release := make(chan struct{})
		first := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: acceptAfter(release)})
		first.Connect()
		others := []*Stream{s.Begin(harness.Request{Target: "/"}, harness.Script{}), s.Begin(harness.Request{Target: "/"}, harness.Script{})}
		const waiting = `ssegateway_connect_callbacks{state="waiting"} `
		for deadline := time.Now().Add(patience); !strings.Contains(s.Call(http.MethodGet, "/metrics", "").Body, waiting+"2\n") && time.Now().Before(deadline); {
		}
		s.wantMetrics(waiting+"2", `ssegateway_connect_callbacks{state="asking"} 1`)
		close(release)
		for _, x := range append(others, first) {
			x.WantHead()
		}
		s.wantMetrics(waiting+"0", `ssegateway_connect_callbacks{state="asking"} 0`)
	}},
	{name: "without a backend the gateway is not ready", run: func(t *T) {
		t.StartWith(nil).wantMetrics("ssegateway_ready 0")
	}},
}}
