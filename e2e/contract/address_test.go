package contract

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"ssegateway/e2e/harness"
)

// from is a request for a stream in which a proxy says these things.
func from(fields ...string) harness.Request {
	r := harness.Request{Target: "/secret/page?q=1"}
	for i := 0; i < len(fields); i += 2 {
		r.Header = append(r.Header, harness.Field{Name: fields[i], Value: fields[i+1]})
	}
	return r
}

// fromAddr is a request that a proxy passes on for a client.
func fromAddr(client string) harness.Request { return from("x-forwarded-for", client) }

// trustingTests trusts the proxy that the tests are.
const trustingTests = "TRUSTED_PROXIES=127.0.0.0/8,::1,10.0.0.0/8"

// untrustedProxy begins the warning about a header that is ignored.
const untrustedProxy = "a peer that is not in TRUSTED_PROXIES sends the header of a proxy"

// wantTooMany checks that a request is refused because of its address, without a callback.
func (s *Site) wantTooMany(r harness.Request, low, high int) {
	s.t.Helper()
	x := s.Begin(r, harness.Script{})
	head := x.WantHead()
	seconds, err := strconv.Atoi(head.Get("Retry-After"))
	if err != nil || seconds < low || seconds > high {
		s.t.Errorf("Retry-After %q, want %d to %d", head.Get("Retry-After"), low, high)
	}
	x.Refusal(http.StatusTooManyRequests, "TOO_MANY_FROM_ADDRESS", "")
	if calls := s.backend.Calls(action(x.key, "connect")); len(calls) != 0 { // it would have been made before the answer
		s.t.Errorf("callback %s, want none", calls[0].Body)
	}
}

// clientIP returns the address that a callback has of the client; "none" if it has no such member.
func clientIP(t *T, c *harness.Callback) string {
	t.Helper()
	var body struct {
		Request map[string]json.RawMessage `json:"request"`
	}
	if err := json.Unmarshal(c.Body, &body); err != nil {
		t.Fatal(err)
	}
	raw, ok := body.Request["client_ip"]
	if !ok {
		return "none"
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

var addresses = section{title: "2 per address", cases: []contractCase{
	{name: "by default an address has any number of streams, and nobody is told of it", run: func(t *T) {
		s := t.Start("LOG_LEVEL=debug")
		var x *Stream
		for range 20 {
			x = s.OpenWith(fromAddr("198.51.100.7"), harness.Script{})
		}
		if got := clientIP(t, x.Connect()); got != "none" {
			t.Errorf("the callback has client_ip %q", got)
		}
		if body := s.Call(http.MethodGet, "/internal/connections/"+x.token, "").Body; strings.Contains(body, "client_ip") {
			t.Error(body)
		}
		x.Leave()
		x.Disconnect()
		if text := s.gw.Log.Text(); strings.Contains(text, "client_ip=") || strings.Contains(text, untrustedProxy) {
			t.Error(text)
		}
		if body := s.Call(http.MethodGet, "/metrics", "").Body; strings.Contains(body, "per_ip") || strings.Contains(body, "client_addresses") {
			t.Error("metrics of limits that are not set")
		}
	}},
	{name: "MAX_CONNECTIONS_PER_IP: one more is refused with 429, pending ones count, and an end makes room", run: func(t *T) {
		s := t.Start("MAX_CONNECTIONS_PER_IP=2", trustingTests)
		release := make(chan struct{})
		pending := s.Begin(fromAddr("198.51.100.7"), harness.Script{Connect: acceptAfter(release)})
		pending.Connect()
		open := s.OpenWith(fromAddr("198.51.100.7"), harness.Script{})
		s.wantTooMany(fromAddr("198.51.100.7"), 1, 5)
		s.OpenWith(fromAddr("198.51.100.8"), harness.Script{}) // nobody else is concerned
		s.wantMetrics(`ssegateway_streams_refused_total{cause="max_connections_per_ip"} 1`, `ssegateway_streams_refused_total{cause="connects_per_minute_per_ip"} 0`, "ssegateway_client_addresses 2")
		close(release)
		if head := pending.WantHead(); head.Status != http.StatusOK {
			t.Fatalf("status %d", head.Status)
		}
		s.wantTooMany(fromAddr("198.51.100.7"), 1, 5)
		open.Leave()
		open.Disconnect()
		s.OpenWith(fromAddr("198.51.100.7"), harness.Script{})
		s.wantTooMany(fromAddr("198.51.100.7"), 1, 5)
	}},
	{name: "a refusal by the backend makes room as well", run: func(t *T) {
		s := t.Start("MAX_CONNECTIONS_PER_IP=1", trustingTests)
		for range 3 {
			s.Begin(fromAddr("198.51.100.7"), refusing(http.StatusForbidden)).Refusal(http.StatusForbidden, "BACKEND_FORBIDDEN", "")
			s.awaitMetric("ssegateway_client_addresses 0")
		}
	}},
	{name: "IPv6 counts by the /64, IPv4 in IPv6 as IPv4", run: func(t *T) {
		s := t.Start("MAX_CONNECTIONS_PER_IP=1", trustingTests)
		s.OpenWith(fromAddr("2001:db8:1:2::1"), harness.Script{})
		s.wantTooMany(fromAddr("2001:db8:1:2:ffff::2"), 1, 5)
		s.OpenWith(fromAddr("2001:db8:1:3::1"), harness.Script{})
		s.OpenWith(fromAddr("198.51.100.7"), harness.Script{})
		s.wantTooMany(fromAddr("::ffff:198.51.100.7"), 1, 5)
		s.wantTooMany(fromAddr("::ffff:c633:6407"), 1, 5)
	}},
	{name: "CONNECTS_PER_MINUTE_PER_IP: as many at once, then 429 until the next may come", run: func(t *T) {
		s := t.Start("CONNECTS_PER_MINUTE_PER_IP=3", trustingTests)
		for range 3 {
			x := s.OpenWith(fromAddr("198.51.100.7"), harness.Script{})
			x.Leave()
			x.Disconnect()
		}
		s.wantTooMany(fromAddr("198.51.100.7"), 1, 24)
		s.OpenWith(fromAddr("198.51.100.8"), harness.Script{})
		s.wantMetrics(`ssegateway_streams_refused_total{cause="connects_per_minute_per_ip"} 1`, "ssegateway_client_addresses 2")
	}},
	{name: "for an EventSource 429 is temporary, and it comes back no earlier than the next may come", run: func(t *T) {
		s := t.Start("CONNECTS_PER_MINUTE_PER_IP=1", "EVENTSOURCE_ERRORS=retry", trustingTests)
		r := eventSource("/")
		r.Header = append(r.Header, fromAddr("198.51.100.7").Header...)
		s.OpenWith(r, harness.Script{})
		s.Begin(r, harness.Script{}).wantComeBack("a second one", 30*time.Second, 70*time.Second)
	}},
	{name: "the address is in callbacks, in the list of connections, and in the log at level debug", run: func(t *T) {
		s := t.Start("CONNECTS_PER_MINUTE_PER_IP=100", trustingTests, "LOG_LEVEL=debug")
		for client, want := range map[string]string{
			"198.51.100.7":                           "198.51.100.7",
			"::ffff:198.51.100.7":                    "198.51.100.7",
			"2001:DB8::7":                            "2001:db8::7",
			"203.0.113.9, 198.51.100.8, 10.0.0.2":    "198.51.100.8",
			"203.0.113.9,[2001:db8::9]:443,10.0.0.2": "2001:db8::9",
			"unknown":                                "127.0.0.1",
		} {
			x := s.OpenWith(fromAddr(client), harness.Script{})
			if got := clientIP(t, x.Connect()); got != want {
				t.Errorf("%s: the connect has client_ip %q", client, got)
			}
			if body := s.Call(http.MethodGet, "/internal/connections/"+x.token, "").Body; !strings.Contains(body, fmt.Sprintf(`"path":"/secret/page","client_ip":%q`, want)) {
				t.Errorf("%s: described as %s", client, body)
			}
			if body := s.Call(http.MethodGet, "/internal/connections", "").Body; !strings.Contains(body, fmt.Sprintf(`"client_ip":%q`, want)) {
				t.Errorf("%s: listed as %s", client, body)
			}
			x.Leave()
			if got := clientIP(t, x.Disconnect()); got != want {
				t.Errorf("%s: the disconnect has client_ip %q", client, got)
			}
			s.WantLog("connect", x.token, "client_ip="+want)
			s.WantLog("close", x.token, "client_ip="+want)
		}
		if strings.Contains(s.gw.Log.Text(), untrustedProxy) {
			t.Error("a warning about a proxy that is trusted")
		}
	}},
	{name: "at level info no address is logged, of a stream that is turned away neither", run: func(t *T) {
		s := t.Start("MAX_CONNECTIONS_PER_IP=1", trustingTests, "LOG_LEVEL=info")
		x := s.OpenWith(fromAddr("198.51.100.7"), harness.Script{})
		s.wantTooMany(fromAddr("198.51.100.7"), 1, 5)
		s.WantLog("WARN", "there are too many from its address")
		x.Leave()
		x.Disconnect()
		if text := s.gw.Log.Text(); strings.Contains(text, "198.51.100.7") || strings.Contains(text, "client_ip=") {
			t.Error(text)
		}
	}},
	{name: "the header of a peer that is not trusted is ignored, and one warning says so", run: func(t *T) {
		s := t.Start("MAX_CONNECTIONS_PER_IP=3", "TRUSTED_PROXIES=10.0.0.0/8")
		for i := range 3 {
			x := s.OpenWith(fromAddr("198.51.100."+strconv.Itoa(i)), harness.Script{})
			if got := clientIP(t, x.Connect()); got != "127.0.0.1" {
				t.Errorf("client_ip %q", got)
			}
		}
		s.wantTooMany(fromAddr("198.51.100.9"), 1, 5)
		if n := s.gw.Log.Count(patience, regexp.MustCompile(untrustedProxy)); n != 1 {
			t.Errorf("%d warnings, want one", n)
		}
	}},
	{name: "CLIENT_IP_HEADER: one header is read, never another", run: func(t *T) {
		s := t.Start("CLIENT_IP_HEADER=x-real-ip", trustingTests)
		for _, c := range []struct {
			fields []string
			want   string
		}{
			{[]string{"x-real-ip", "198.51.100.7", "x-forwarded-for", "203.0.113.9", "forwarded", "for=203.0.113.8"}, "198.51.100.7"},
			{[]string{"x-forwarded-for", "203.0.113.9"}, "127.0.0.1"},
			{[]string{"x-real-ip", "203.0.113.9", "x-real-ip", "198.51.100.8"}, "198.51.100.8"},
		} {
			x := s.OpenWith(from(c.fields...), harness.Script{})
			if got := clientIP(t, x.Connect()); got != c.want {
				t.Errorf("%q: client_ip %q, want %s", c.fields, got, c.want)
			}
		}
	}},
	{name: "streams of one address count whatever connection they share", run: func(t *T) {
		s := t.Start("MAX_CONNECTIONS_PER_IP=2")
		client := s.dialHTTP2()
		s.OpenOn(client)
		s.OpenOn(client)
		x := s.BeginOn(client, harness.Request{Method: "GET", Target: "/"}, harness.Script{})
		x.Refusal(http.StatusTooManyRequests, "TOO_MANY_FROM_ADDRESS", "")
	}},
}}

// awaitMetric waits for a line of the metrics. The end of a request may come behind its answer.
func (s *Site) awaitMetric(line string) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for !strings.Contains("\n"+s.Call(http.MethodGet, "/metrics", "").Body, "\n"+line+"\n") {
		if time.Now().After(deadline) {
			s.t.Fatalf("never %q", line)
		}
	}
}
