package contract

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"ssegateway/e2e/harness"
)

var clients = section{title: "2 client to gateway", core: true, cases: []contractCase{
	{name: "every path is a stream, never cleaned, redirected, validated or rewritten", exact: true, run: func(t *T) {
		wantStreams(t.Shared(), []string{
			"/", "//", "//a", "/a//b/", "/a/../b", "/../..", "/./x", "/a/.", "/%00", "/%2e%2e/x", "/a%2Fb%2f", "/%C3%A9",
			"/a+b", "/a;b=c", "/a:b@c", "/a\"<>^`{|}\\", "/*", "/stream/123",
		})
	}},
	{name: "the query is kept as it is", run: func(t *T) {
		wantStreams(t.Shared(), []string{
			"/x?y=1&z", "/x?", "/?", "/x??", "/x?a=%zz&b=%", "/x?q=a/../b", "/x?a=b;c", "/x?a=1&a=2", "/x?%00", "/x?token=ey.J9+/=",
		})
	}},
	{name: "raw bytes above 127 in the target are kept", exact: true, run: func(t *T) {
		wantStreams(t.Shared(), []string{"/é", "/x?q=日本"})
	}},
	{name: "what the gateway reserves is compared with the raw target", exact: true, run: func(t *T) {
		wantStreams(t.Shared(), []string{
			"/healthz/x", "/healthz//", "/healthzz", "//healthz", "/%68ealthz", "/Healthz", "/./healthz", "/x/../healthz",
			"/readyz/x", "/readyz.html", "/%72eadyz", "/READYZ",
			"/internal", "/internals", "/%69nternal/send", "//internal/send", "/./internal/send", "/x/../internal/send", "/Internal/send", "/internal?x=/internal/send",
			"/?/internal/send", "/metricss", "/%6Detrics",
		})
	}},
	{name: "internal paths are reserved: never a stream, never a callback", run: func(t *T) {
		s := t.Shared()
		for _, target := range []string{"/internal/", "/internal/no/such/thing", "/internal/../x", "/internal/send"} {
			x := s.Begin(harness.Request{Target: target}, harness.Script{})
			got := x.Reply()
			if got.Status < 400 || got.Status > 499 {
				t.Errorf("GET %s: status %d, want a 4xx", target, got.Status)
			}
			s.WantError(got, got.Status, "", "")
			if strings.Contains(got.Body, "TOKEN_NOT_FOUND") {
				t.Errorf("GET %s: %s, which means to a backend that a token is gone", target, got.Body)
			}
			s.wantNoCallback(x.key)
		}
	}},

	{name: "the token is a UUID version 4, another one for each connection", run: func(t *T) {
		s := t.Shared()
		v4 := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
		tokens := map[string]bool{}
		for range 20 {
			x := s.Open("/token")
			if !v4.MatchString(x.token) || tokens[x.token] {
				t.Errorf("token %q is not a UUID version 4, or not unique", x.token)
			}
			tokens[x.token] = true
		}
	}},
	{name: "only a 2xx answer opens the stream: each of them does", run: func(t *T) {
		s := t.Shared()
		for _, status := range []int{200, 201, 202, 203, 204, 205, 206, 226, 299} {
			x := s.OpenWith(harness.Request{Target: "/"}, connectAnswer(status))
			s.Event(x.token, "opened")
			x.Want("data: opened\n\n")
		}
	}},
	{name: "nothing reaches the client before the backend's answer", run: func(t *T) {
		s := t.Shared()
		release := make(chan struct{})
		x := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: acceptAfter(release)})
		x.Connect()
		s.Barrier()
		if head, err := x.Head(0); err == nil {
			t.Errorf("status %d before the backend answered", head.Status)
		}
		close(release)
		if head := x.WantHead(); head.Status != http.StatusOK {
			t.Errorf("status %d", head.Status)
		}
	}},

	{name: "response head: 200, text-event-stream, no-cache, X-Accel-Buffering no", run: func(t *T) {
		s := t.Shared()
		head := s.Open("/head").WantHead()
		if head.Status != http.StatusOK {
			t.Errorf("status %d", head.Status)
		}
		wantField(t, head, "Content-Type", "text/event-stream")
		wantField(t, head, "X-Accel-Buffering", "no")
		if got := head.Values("Cache-Control"); len(got) != 1 || !slices.Contains(strings.Split(strings.ReplaceAll(got[0], " ", ""), ","), "no-cache") {
			t.Errorf("Cache-Control %q, want no-cache and perhaps further directives", got)
		}
		for _, name := range []string{"Content-Length", "Content-Encoding", "Access-Control-Allow-Origin", "Location", "Set-Cookie"} {
			if got := head.Values(name); got != nil {
				t.Errorf("%s: %q, want none", name, got)
			}
		}
	}},
	{name: "response head on HTTP 1.1: Connection keep-alive, chunked", run: func(t *T) {
		head := t.Shared().Open("/head").WantHead()
		if head.Proto != "HTTP/1.1" {
			t.Errorf("protocol %s", head.Proto)
		}
		wantField(t, head, "Connection", "keep-alive")
		wantField(t, head, "Transfer-Encoding", "chunked")
	}},
	{name: "response head on HTTP 2: nothing about the connection", run: func(t *T) {
		head := t.Shared().Open("/head").WantHead()
		for _, name := range []string{"Connection", "Keep-Alive", "Transfer-Encoding"} {
			if got := head.Values(name); got != nil {
				t.Errorf("%s: %q, which HTTP/2 forbids", name, got)
			}
		}
	}},
	{name: "the head reaches the client at once, not with the first event", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/head") // returns after the head, before anything was sent
		answered := x.Connect().At
		if took := x.WantHead().At.Sub(answered); took > 5*time.Second {
			t.Errorf("the head came %v after the callback", took)
		}
		s.CloseStream(x.token)
		x.WantEnd()
	}},
	{name: "never compressed", run: func(t *T) {
		s := t.Shared()
		x := s.OpenWith(harness.Request{
			Target: "/", Header: []harness.Field{{Name: "accept-encoding", Value: "gzip, deflate, br, zstd"}},
		}, harness.Script{})
		if got := x.WantHead().Get("Content-Encoding"); got != "" {
			t.Errorf("Content-Encoding %q", got)
		}
		data := strings.Repeat("compressible ", 1000)
		s.Event(x.token, data)
		x.Want("data: " + data + "\n\n")
	}},
	{name: "HTTP 1.0: no chunking, Connection close, ended by the close", run: func(t *T) {
		s := t.Shared()
		x := s.OpenWith(harness.Request{Target: "/old", Proto: "HTTP/1.0"}, harness.Script{})
		head := x.WantHead()
		wantField(t, head, "Content-Type", "text/event-stream")
		wantField(t, head, "Connection", "close")
		if got := head.Get("Transfer-Encoding"); got != "" {
			t.Errorf("Transfer-Encoding %q", got)
		}
		s.Event(x.token, "one\ntwo")
		x.Want("data: one\ndata: two\n\n")
		s.CloseStream(x.token)
		x.WantEnd()
		x.WantDisconnect("server_closed")
	}},

	{name: "a client that asks for the close of its connection is promised it", run: func(t *T) {
		s := t.Shared()
		closing := []harness.Field{{Name: "Connection", Value: "close"}}
		x := s.OpenWith(harness.Request{Target: "/", Header: closing}, harness.Script{})
		wantField(t, x.WantHead(), "Connection", "close")
		wantField(t, x.WantHead(), "Transfer-Encoding", "chunked")
		s.Event(x.token, "x")
		x.Want("data: x\n\n")
		for _, target := range []string{"/healthz", "/internal/connections"} {
			wantField(t, wantHead(t, s.Do(harness.Request{Target: target, Header: closing})), "Connection", "close")
		}
	}},
	{name: "callback answered 4xx or 5xx: the same status, a JSON error, no stream", run: func(t *T) {
		s := t.Shared()
		codes := map[int]string{401: "BACKEND_AUTH_FAILED", 403: "BACKEND_FORBIDDEN"}
		messages := map[int]string{401: "Backend returned 401", 403: "Backend returned 403"}
		for _, status := range []int{400, 402, 404, 405, 407, 409, 410, 418, 422, 429, 451, 500, 501, 502, 503, 504, 599} {
			codes[status] = "BACKEND_ERROR"
			messages[status] = "Backend returned " + itoa(status)
		}
		for _, status := range slices.Sorted(maps.Keys(codes)) {
			x := s.Begin(harness.Request{Target: "/refused"}, harness.Script{Connect: answerAlways(harness.Answer{
				Status: status, Body: `{"error":"not for the client"}`, Header: http.Header{"Content-Type": {"application/json"}},
			})})
			x.Refusal(status, codes[status], messages[status])
		}
	}},
	{name: "a redirect, and a status that HTTP does not have: 502 BACKEND_ERROR; no redirect is followed", run: func(t *T) {
		s := t.Shared()
		for _, status := range []int{300, 301, 302, 303, 304, 307, 308, 399, 600, 999} {
			x := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: answerAlways(harness.Answer{
				Status: status, Header: http.Header{"Location": {"/elsewhere?q=" + secretQuery}},
			})})
			x.Refusal(http.StatusBadGateway, "BACKEND_ERROR", "Backend returned "+itoa(status))
		}
		s.Barrier()
		if calls := s.backend.Calls(func(c *harness.Callback) bool { return c.Target == "/elsewhere" }); len(calls) > 0 {
			t.Errorf("the gateway followed a redirect: %s %s", calls[0].Method, calls[0].Target)
		}
	}},
	{name: "callback timed out after 5 s: 504 GATEWAY_TIMEOUT", slow: true, run: func(t *T) {
		s := t.Start()
		x := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: hang})
		x.Refusal(http.StatusGatewayTimeout, "GATEWAY_TIMEOUT", "Gateway timeout")
		if took := x.WantHead().At.Sub(x.Connect().At); took < 5*time.Second-slack || took > 5*time.Second+2*slack {
			t.Errorf("the timeout took %v, want 5 s", took)
		}
	}},
	{name: "callback unreachable: 503 BACKEND_UNAVAILABLE", run: func(t *T) {
		port, err := harness.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		s := t.StartWith(nil, "CALLBACK_URL=http://127.0.0.1:"+itoa(port)+"/callback")
		x := s.Do(harness.Request{Target: "/"})
		s.WantError(reply(t, x), http.StatusServiceUnavailable, "BACKEND_UNAVAILABLE", "")
	}},
	{name: "callback connection broken before an answer: 503 BACKEND_UNAVAILABLE", run: func(t *T) {
		s := t.Start()
		x := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: answerAlways(harness.Answer{Drop: true})})
		x.Refusal(http.StatusServiceUnavailable, "BACKEND_UNAVAILABLE", "")
	}},

	{name: "other methods: 405 with Allow, never a callback, HEAD included", run: func(t *T) {
		s := t.Shared()
		for _, method := range []string{"HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get"} {
			x := s.Begin(harness.Request{Method: method, Target: "/stream?x=1"}, harness.Script{})
			got := x.Reply()
			if allow := got.Header.Values("Allow"); len(allow) != 1 || !slices.Contains(strings.Split(strings.ReplaceAll(allow[0], " ", ""), ","), "GET") {
				t.Errorf("%s: Allow %q, want one with GET", method, allow)
			}
			if method == http.MethodHead {
				if got.Status != http.StatusMethodNotAllowed || got.Body != "" {
					t.Errorf("HEAD: %d with %q", got.Status, got.Body)
				}
			} else {
				s.WantError(got, http.StatusMethodNotAllowed, "", "")
			}
			s.wantNoCallback(x.key)
		}
	}},
	{name: "a POST with a body is a 405 too", run: func(t *T) {
		s := t.Shared()
		x := s.Begin(harness.Request{Method: "POST", Target: "/stream", Body: []byte(`{"a":1}`)}, harness.Script{})
		s.WantError(x.Reply(), http.StatusMethodNotAllowed, "", "")
		s.wantNoCallback(x.key)
	}},
}}

// wantStreams opens a stream at each target, and checks that the callback has exactly this target.
func wantStreams(s *Site, targets []string) {
	s.t.Helper()
	for _, target := range targets {
		x := s.Begin(harness.Request{Target: target}, harness.Script{})
		head, err := x.Head(patience)
		if err != nil || head.Status != http.StatusOK {
			s.t.Errorf("GET %s: %+v, %v; want a stream", target, head, err)
			continue
		}
		if got := x.Connect().URL; got != target {
			s.t.Errorf("GET %s: the callback has the url %q", target, got)
		}
		x.Leave()
	}
}

func wantField(t *T, head *harness.Head, name, want string) {
	t.Helper()
	if got := head.Values(name); len(got) != 1 || got[0] != want {
		t.Errorf("%s: %q, want %q once", name, got, want)
	}
}

// wantNoCallback checks that no callback was made for the key so far.
func (s *Site) wantNoCallback(key string) {
	s.t.Helper()
	s.Barrier()
	if calls := s.backend.Calls(func(c *harness.Callback) bool { return c.Key == key }); len(calls) != 0 {
		s.t.Errorf("callback %s, want none", calls[0].Body)
	}
}
