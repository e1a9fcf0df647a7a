package contract

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"ssegateway/e2e/harness"
)

var hardening = section{title: "2 hardening of the public listener", cases: []contractCase{
	{name: "a body on GET is refused with 400, whichever way it is framed, without a callback", run: func(t *T) {
		s := t.Shared()
		for _, r := range []harness.Request{
			{Target: "/", Body: []byte("x")},
			{Target: "/", Body: []byte(`{"a":1}`), Header: []harness.Field{{Name: "content-type", Value: "application/json"}}},
		} {
			x := s.Begin(r, harness.Script{})
			x.Refusal(http.StatusBadRequest, "", "")
			s.wantNoCallback(x.key)
		}
	}},
	{name: "a chunked body on GET is refused with 400, and so is one that does not come", run: func(t *T) {
		s := t.Shared()
		for _, body := range []string{"1\r\nx\r\n0\r\n\r\n", "", "1\r\n", "nonsense\r\n"} {
			x := s.Begin(harness.Request{Target: "/", Body: []byte(body), Header: []harness.Field{{Name: "Transfer-Encoding", Value: "chunked"}}}, harness.Script{})
			x.Refusal(http.StatusBadRequest, "", "")
			s.wantNoCallback(x.key)
		}
	}},
	{name: "a GET that is framed as empty, chunked or by an empty DATA frame, is a stream", run: func(t *T) {
		s := t.Shared()
		empty := harness.Request{Target: "/", Body: []byte{}}
		if t.http1() {
			empty = harness.Request{Target: "/", Body: []byte("0\r\n\r\n"), Header: []harness.Field{{Name: "Transfer-Encoding", Value: "chunked"}}}
		}
		x := s.OpenWith(empty, harness.Script{})
		s.Event(x.token, "x")
		x.Want("data: x\n\n")
		x.Leave()
		x.WantDisconnect("client_closed")
	}},
	{name: "a client that was refused over HTTP 1: the connection ends behind the answer", run: func(t *T) {
		s := t.Shared()
		for _, r := range []harness.Request{
			{Method: "POST", Target: "/x", Body: []byte("x")},
			{Method: "POST", Target: "/x", Body: []byte("0\r\n\r\n"), Header: []harness.Field{{Name: "Transfer-Encoding", Value: "chunked"}, {Name: "Content-Length", Value: "5"}}},
			{Method: "HEAD", Target: "/x"},
			{Method: "POST", Target: "/healthz"},
			{Target: "/internal/send", Header: fromOrigin("https://evil.example").Header},
			{Target: "/metrics", Host: "evil.example"},
			{Target: "/", Body: []byte("x")},
		} {
			s.wantClosedBehind(r, harness.Script{})
		}
		for _, status := range []int{401, 403, 404, 500} {
			s.wantClosedBehind(harness.Request{Target: "/"}, connectAnswer(status))
		}
		s.wantClosedBehind(harness.Request{Target: "/"}, harness.Script{Connect: answerAlways(harness.Answer{Drop: true})})
	}},
	{name: "a client that was refused over HTTP 2: the connection and its other streams go on", run: func(t *T) {
		s := t.Shared()
		client := s.dialHTTP2()
		open := s.OpenOn(client)
		for _, r := range []harness.Request{
			{Method: "POST", Target: "/x", Body: []byte("x")},
			{Method: "HEAD", Target: "/x"},
			{Method: "POST", Target: "/healthz"},
			{Method: "GET", Target: "/internal/send", Header: fromOrigin("https://evil.example").Header},
			{Method: "GET", Target: "/", Body: []byte("x")},
		} {
			s.BeginOn(client, r, harness.Script{}).Reply()
		}
		for _, status := range []int{401, 403, 404, 500} {
			s.BeginOn(client, harness.Request{Method: "GET", Target: "/"}, connectAnswer(status)).Refusal(status, "", "")
		}
		left := s.OpenOn(client)
		left.Leave()
		left.WantDisconnect("client_closed")
		pending := s.BeginOn(client, harness.Request{Method: "GET", Target: "/"}, harness.Script{Connect: hang})
		pending.Connect()
		pending.Leave()
		s.Event(s.OpenOn(client).token, "one more")
		s.Event(open.token, "still here")
		open.Want("data: still here\n\n")
		if client.GoneAway() {
			t.Error("the connection ended")
		}
	}},
	{name: "a Content-Length of 0 is no body", run: func(t *T) {
		s := t.Shared()
		x := s.OpenWith(harness.Request{Target: "/", Header: []harness.Field{{Name: "content-length", Value: "0"}}}, harness.Script{})
		s.Event(x.token, "x")
		x.Want("data: x\n\n")
	}},
	{name: "a target in absolute form is its path and query, and its authority the host", exact: true, run: func(t *T) {
		s := t.Shared()
		for target, want := range map[string]string{
			"http://gateway.example/stream?a=b": "/stream?a=b", "HTTPS://gateway.example": "/", "http://gateway.example?q": "/?q",
			"http://gateway.example//a/../%00": "//a/../%00", "http://gateway.example/http://x": "/http://x",
		} {
			c := s.OpenWith(harness.Request{Target: target, Host: "other.example"}, harness.Script{}).Connect()
			if c.URL != want || c.Headers["host"] != "gateway.example" {
				t.Errorf("%s: url %q, host %q", target, c.URL, c.Headers["host"])
			}
		}
		s.WantJSON(reply(t, s.Do(harness.Request{Target: "http://gateway.example/healthz"})), http.StatusOK, object{"status": "ok"})
	}},
	{name: "internal in absolute form: 403 at the public port, whoever asks", run: func(t *T) {
		const secret = "s3cret-of-some-length-4711"
		s := t.Start("INTERNAL_TOKEN=" + secret)
		bearer := []harness.Field{{Name: "Authorization", Value: "Bearer " + secret}}
		for _, target := range []string{"http://localhost/internal/stats", "http://localhost/metrics", "https://localhost/internal/connections?x"} {
			s.WantError(reply(t, s.Do(harness.Request{Target: target, Header: bearer})), http.StatusForbidden, "INTERNAL_FORBIDDEN", "")
		}
	}},
	{name: "internal in absolute form: served by the listener of INTERNAL_ADDR", run: func(t *T) {
		port, err := harness.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		t.Start("INTERNAL_ADDR=127.0.0.1:" + itoa(port))
		e := harness.Endpoint{Addr: "127.0.0.1:" + itoa(port)}
		for target, want := range map[string]int{"http://localhost/internal/stats": 200, "http://localhost/metrics": 200, "http://evil.example/metrics": 403} {
			if got := reply(t, do(t, e, harness.Request{Target: target, Host: "localhost"})); got.Status != want {
				t.Errorf("%s: %d %s", target, got.Status, quoted(got.Body))
			}
		}
	}},
	{name: "a target of another scheme, or with user information: 400, without a callback", run: func(t *T) {
		s := t.Shared()
		for _, target := range []string{"ftp://x/y", "http://user@x/y", "http://user:password@x/", "http:///y", "http://x@/y"} {
			x := s.Begin(harness.Request{Target: target}, harness.Script{})
			x.Refusal(http.StatusBadRequest, "", "")
			s.wantNoCallback(x.key)
		}
	}},
	{name: "a malformed request is a 400 and the connection ends", run: func(t *T) {
		s := t.Shared()
		for _, raw := range []string{
			"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nBad Name: y\r\n\r\n", "GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
			"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", "nonsense\r\n\r\n", "GET stream HTTP/1.1\r\nHost: x\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
		} {
			if head := wantHead(t, s.Do(harness.Request{Raw: raw})); head.Status != http.StatusBadRequest {
				t.Errorf("%q: status %d", raw, head.Status)
			}
		}
	}},
	{name: "a malformed request: the error form, and CORS", run: func(t *T) {
		const origin = "https://app.example"
		s := t.Start("CORS_ALLOWED_ORIGINS=" + origin)
		for _, c := range malformed {
			for from, allowed := range map[string]string{origin: origin, "https://evil.example": "", "": ""} {
				got := reply(t, s.Do(harness.Request{Raw: c.raw(from)}))
				s.WantError(got, c.status, c.code, "")
				if !strings.Contains(got.Body, c.says) {
					t.Errorf("%.80q: %s, want %q in it", c.raw(from), got.Body, c.says)
				}
				fields := map[string]string{
					"Connection": "close", "Content-Type": "application/json", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
					"Content-Length": itoa(len(got.Body)), "Access-Control-Allow-Origin": allowed, "Access-Control-Allow-Credentials": "", "Access-Control-Expose-Headers": "",
				}
				if allowed != "" {
					fields["Access-Control-Allow-Credentials"], fields["Access-Control-Expose-Headers"] = "true", "Retry-After"
				}
				for name, want := range fields {
					if v := strings.Join(got.Header.Values(name), "; "); v != want {
						t.Errorf("%.80q from %q: %s: %q, want %q", c.raw(from), from, name, v, want)
					}
				}
			}
		}
	}},
	{name: "a malformed request behind another one: the error form", run: func(t *T) {
		s := t.Shared()
		conn, err := s.endpoint.Dial(t.Context(), 0, "")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, text := range []string{"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n"} {
			if _, err := conn.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		text, err := io.ReadAll(conn)
		if answers := strings.Split(string(text), "HTTP/1.1 "); err != nil || len(answers) != 4 || !strings.HasPrefix(answers[3], "400 ") || !strings.Contains(answers[3], `"code":"INVALID_REQUEST"`) {
			t.Errorf("%q, %v", text, err)
		}
	}},
	{name: "HTTP to a port that speaks HTTPS: 400 INVALID_REQUEST, which says so", run: func(t *T) {
		s := t.Shared()
		got := reply(t, do(t, harness.Endpoint{Addr: s.endpoint.Addr}, harness.Request{Target: "/"}))
		s.WantError(got, http.StatusBadRequest, "INVALID_REQUEST", "")
		if !strings.Contains(got.Body, "https") {
			t.Errorf("%s", got.Body)
		}
	}},
	{name: "OPTIONS of the gateway as a whole: a 405 like that of a path", run: func(t *T) {
		s := t.Shared()
		got := reply(t, s.Do(harness.Request{Method: http.MethodOptions, Target: "*"}))
		s.WantError(got, http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "")
		if got.Header.Get("X-Content-Type-Options") != "nosniff" || got.Header.Get("Allow") != http.MethodGet {
			t.Errorf("%v", got.Header)
		}
	}},
	{name: "a target or headers over 32 KiB: 431 REQUEST_TOO_LARGE, without a callback", run: func(t *T) {
		s := t.Shared()
		for _, r := range tooLarge() {
			x := s.Begin(r, harness.Script{})
			x.Refusal(http.StatusRequestHeaderFieldsTooLarge, "REQUEST_TOO_LARGE", "")
			s.wantNoCallback(x.key)
			r.Target, r.Host = "/healthz", "x"
			if len(r.Header) > 0 {
				s.WantError(reply(t, s.Do(r)), http.StatusRequestHeaderFieldsTooLarge, "REQUEST_TOO_LARGE", "")
			}
		}
	}},
	{name: "a target or headers over 32 KiB on HTTP 2: the connection and its other streams go on", run: func(t *T) {
		s := t.Shared()
		client := s.dialHTTP2()
		open := s.OpenOn(client)
		for _, r := range tooLarge() {
			r.Method = "GET"
			s.BeginOn(client, r, harness.Script{}).Refusal(http.StatusRequestHeaderFieldsTooLarge, "REQUEST_TOO_LARGE", "")
		}
		s.Event(s.OpenOn(client).token, "one more")
		s.Event(open.token, "still here")
		open.Want("data: still here\n\n")
		if client.GoneAway() {
			t.Error("the connection ended")
		}
	}},
	{name: "headers that nobody takes: 431", run: func(t *T) {
		r := harness.Request{Target: "/"}
		for i := range 1100 {
			r.Header = append(r.Header, harness.Field{Name: "x-filler-" + itoa(i), Value: strings.Repeat("f", 1000)})
		}
		s := t.Shared()
		s.WantError(reply(t, s.Do(r)), http.StatusRequestHeaderFieldsTooLarge, "REQUEST_TOO_LARGE", "")
	}},
	{name: "a request that is too large once it is encoded: 431 REQUEST_TOO_LARGE, without a callback", run: func(t *T) {
		s := t.Shared()
		x := s.Begin(harness.Request{Target: "/large", Header: []harness.Field{{Name: "x-long", Value: strings.Repeat(`"`, 34_000)}}}, harness.Script{})
		x.Refusal(http.StatusRequestHeaderFieldsTooLarge, "REQUEST_TOO_LARGE", "")
		tabs := s.OpenWith(harness.Request{Target: "/", Header: []harness.Field{{Name: "x-tabs", Value: "a" + strings.Repeat("\t", 30_000) + "b"}}}, harness.Script{})
		if c := tabs.Connect(); len(c.Body) > 62_000 || len(c.Headers["x-tabs"]) != 30_002 {
			t.Errorf("30,000 tabs are a callback of %d bytes", len(c.Body))
		}
		if calls := s.backend.Calls(func(c *harness.Callback) bool { return c.URL == "/large" }); len(calls) > 0 {
			t.Error("a callback for a request that was refused")
		}
	}},
	{name: "REQUEST_BUDGET_BYTES: 503 with Retry-After while the backend is not told of ends", slow: true, run: func(t *T) {
		s := t.Start("REQUEST_BUDGET_BYTES=20000")
		release := make(chan struct{})
		r := harness.Request{Target: "/", Header: []harness.Field{{Name: "x-long", Value: strings.Repeat("v", 4<<10)}}}
		script := harness.Script{Disconnect: func(*harness.Callback) harness.Answer {
			select {
			case <-release:
				return harness.Answer{}
			default:
				return harness.Answer{Status: 500}
			}
		}}
		var left []*Stream
		for {
			x := s.Begin(r, script)
			if head := x.WantHead(); head.Status != http.StatusOK {
				if head.Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
				x.Refusal(http.StatusServiceUnavailable, "REQUEST_BUDGET_FULL", "")
				break
			}
			if left = append(left, x); len(left) > 10 {
				t.Fatal("ten requests of 4 KiB are kept within a budget of 20,000 bytes")
			}
			x.Leave()
			x.Disconnect()
		}
		if len(left) < 2 {
			t.Errorf("%d streams within the budget", len(left))
		}
		s.WantLog("WARN", "turned away", "limit=20000")
		if got := s.Call(http.MethodGet, "/metrics", ""); !strings.Contains(got.Body, "\nssegateway_request_budget_refused_total 1\n") {
			t.Error("the refusal is not counted")
		}
		close(release)
		for _, x := range left {
			s.WantLog("action=disconnect", x.Connect().Token, "result=delivered")
		}
		s.OpenWith(r, harness.Script{})
	}},
	{name: "headers of 6 KiB, a few cookies and a long query, are within the limit", run: func(t *T) {
		s := t.Shared()
		r := harness.Request{Target: "/?q=" + strings.Repeat("q", 2<<10), Header: []harness.Field{{Name: "cookie", Value: strings.Repeat("c", 2<<10)}, {Name: "x-long", Value: strings.Repeat("v", 2<<10)}}}
		c := s.OpenWith(r, harness.Script{}).Connect()
		if c.URL != r.Target || c.Headers["cookie"] != r.Header[0].Value || c.Headers["x-long"] != r.Header[1].Value {
			t.Errorf("callback %s", quoted(string(c.Body)))
		}
	}},
	{name: "a request head that does not come to its end: the connection is closed", slow: true, run: func(t *T) {
		s := t.Shared()
		begun := "GET /slow HTTP/1.1\r\nHost: x\r\n"
		if !t.http1() {
			begun = "PRI * HT"
		}
		for _, begun := range []string{begun, ""} {
			conn, err := s.endpoint.Dial(t.Context(), 0, "")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write([]byte(begun)); err != nil {
				t.Fatal(err)
			}
			wantClosed(t, conn, begun)
			conn.Close()
		}
	}},
	{name: "MAX_CONNECTIONS: 503 with Retry-After beyond it, while health and internal keep working", run: func(t *T) {
		s := t.Start("MAX_CONNECTIONS=3")
		first, second := s.Open("/1"), s.Open("/2")
		pending, accept := s.pending() // counts as a stream as well
		for range 3 {
			x := s.Begin(harness.Request{Target: "/beyond"}, harness.Script{})
			got := x.Reply()
			s.WantError(got, http.StatusServiceUnavailable, "", "")
			if seconds, err := strconv.Atoi(got.Header.Get("Retry-After")); err != nil || seconds < 1 {
				t.Errorf("Retry-After %q", got.Header.Get("Retry-After"))
			}
			if calls := s.backend.Calls(func(c *harness.Callback) bool { return c.Key == x.key }); len(calls) > 0 {
				t.Errorf("callback %s", calls[0].Body)
			}
		}
		s.WantJSON(s.Call(http.MethodGet, "/healthz", ""), http.StatusOK, object{"status": "ok"})
		s.Readiness(http.StatusOK)
		s.Event(first.token, "works")
		first.Want("data: works\n\n")
		accept()
		pending.WantHead()
		s.CloseStream(second.token)
		second.WantEnd()
		second.Disconnect()
		s.Event(s.Open("/again").token, "a place was free")
	}},
	{name: "a connection that was refused does not count", run: func(t *T) {
		s := t.Start("MAX_CONNECTIONS=2")
		for range 5 {
			s.Begin(harness.Request{Target: "/"}, connectAnswer(403)).Refusal(http.StatusForbidden, "BACKEND_FORBIDDEN", "")
		}
		s.Open("/1")
		s.Open("/2")
	}},
	{name: "the certificate is read again when it changes", slow: true, run: func(t *T) {
		dir := t.TempDir()
		cert, err := harness.NewCertificate(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.kind.Cert = cert
		t.kind.Settings = []string{"TLS_CERT_FILE=" + filepath.Join(dir, "cert.pem"), "TLS_KEY_FILE=" + filepath.Join(dir, "key.pem")}
		s := t.Start()
		old := s.Open("/old")
		renewed, err := harness.NewCertificate(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.kind.Cert = renewed
		e := t.kind.endpoint(s.gw.Port)
		deadline := time.Now().Add(75 * time.Second)
		for {
			// A handshake that trusts only the new certificate shows that it is in use.
			conn, err := e.Dial(t.Context(), 0, "")
			if err == nil {
				conn.Close()
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("still the old certificate: %v", err)
			}
			pause(100 * time.Millisecond)
		}
		s.client.CloseIdleConnections()
		s.endpoint, s.client = e, e.Client()
		s.Event(old.token, "still open")
		old.Want("data: still open\n\n")
	}},
	{name: "two streams on one HTTP 2 connection live and die apart", run: func(t *T) {
		s := t.Shared()
		client := s.dialHTTP2()
		one, two, three := s.OpenOn(client), s.OpenOn(client), s.OpenOn(client)
		one.Leave()
		one.WantDisconnect("client_closed")
		s.CloseStream(two.token)
		two.WantEnd()
		two.WantDisconnect("server_closed")
		s.Event(three.token, "alone")
		three.Want("data: alone\n\n")
		client.HangUp()
		three.WantDisconnect("client_closed")
	}},
}}

// dialHTTP2 opens a connection for several exchanges.
func (s *Site) dialHTTP2() *harness.HTTP2 {
	s.t.Helper()
	conn, err := s.endpoint.Dial(s.t.Context(), 0, "")
	if err != nil {
		s.t.Fatal(err)
	}
	client, err := harness.NewHTTP2(conn)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(client.HangUp)
	return client
}

// BeginOn is Begin on an existing HTTP/2 connection.
func (s *Site) BeginOn(client *harness.HTTP2, r harness.Request, script harness.Script) *Stream {
	s.t.Helper()
	x := &Stream{s: s, key: NewKey()}
	s.backend.On(x.key, script)
	r.Host = cmp.Or(r.Host, "x")
	r.Header = append(r.Header[:len(r.Header):len(r.Header)], harness.Field{Name: harness.KeyHeader, Value: x.key})
	var err error
	if x.Exchange, err = client.Do(s.endpoint, r); err != nil {
		s.t.Fatal(err)
	}
	return x
}

// OpenOn is Open on an existing HTTP/2 connection.
func (s *Site) OpenOn(client *harness.HTTP2) *Stream {
	s.t.Helper()
	x := s.BeginOn(client, harness.Request{Method: "GET", Target: "/"}, harness.Script{})
	if head := x.WantHead(); head.Status != http.StatusOK {
		s.t.Fatalf("status %d", head.Status)
	}
	x.token = x.Connect().Token
	return x
}

// wantClosedBehind checks that a request over HTTP/1 is refused, and that the gateway then closes the connection.
func (s *Site) wantClosedBehind(r harness.Request, script harness.Script) {
	s.t.Helper()
	conn, err := s.endpoint.Dial(s.t.Context(), 0, "")
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	key := NewKey()
	s.backend.On(key, script)
	text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\n%s: %s\r\n", cmp.Or(r.Method, "GET"), r.Target, cmp.Or(r.Host, "x"), harness.KeyHeader, key)
	for _, f := range r.Header {
		text += f.Name + ": " + f.Value + "\r\n"
	}
	if len(r.Body) > 0 && !strings.Contains(text, "Content-Length") {
		text += "Content-Length: " + itoa(len(r.Body)) + "\r\n"
	}
	if _, err := conn.Write([]byte(text + "\r\n" + string(r.Body))); err != nil {
		s.t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	answer, err := io.ReadAll(conn)
	if head, _, _ := strings.Cut(string(answer), "\r\n\r\n"); err != nil || !strings.HasPrefix(head, "HTTP/1.1 4") && !strings.HasPrefix(head, "HTTP/1.1 5") ||
		!strings.Contains(head, "\r\nConnection: close") {
		s.t.Errorf("%s %s: %v after %s", r.Method, r.Target, err, quoted(string(answer)))
	}
}

// wantClosed waits until the gateway closes the connection, at most 60 s.
func wantClosed(t *T, conn net.Conn, after string) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(60 * time.Second))
	buffer := make([]byte, 4096)
	for {
		if _, err := conn.Read(buffer); os.IsTimeout(err) {
			t.Errorf("still open 60 s after %q", after)
			return
		} else if err != nil {
			return
		}
	}
}

// malformed are requests that do not reach a handler. %s is the place for an Origin field.
var malformed = []malformedRequest{
	{"GET / HTTP/1.1\r\n%s\r\n", 400, "INVALID_REQUEST", "missing required Host header"},
	{"HEAD /%%zz HTTP/1.1\r\nHost: x\r\n%s\r\n", 400, "INVALID_REQUEST", "target"},
	{"GET / HTTP/1.1\r\nHost: x\r\n%sBad Name: y\r\n\r\n", 400, "INVALID_REQUEST", "malformed"},
	{"GET / HTTP/1.1\r\nHost: x\r\n%sExpect: wonders\r\n\r\n", 417, "INVALID_REQUEST", "100-continue"},
	{"GET / HTTP/1.1\r\nHost: x\r\n%sFiller: " + strings.Repeat("f", 135<<10) + "\r\n\r\n", 431, "REQUEST_TOO_LARGE", ""},
	{"POST / HTTP/1.1\r\nHost: x\r\n%sTransfer-Encoding: gzip\r\n\r\n", 501, "INVALID_REQUEST", "chunked"},
	{"GET / HTTP/2.0\r\nHost: x\r\n%s\r\n", 505, "INVALID_REQUEST", "HTTP/1.1"},
}

type malformedRequest struct {
	text       string
	status     int
	code, says string
}

func (m malformedRequest) raw(origin string) string {
	if origin != "" {
		origin = "Origin: " + origin + "\r\n"
	}
	return fmt.Sprintf(m.text, origin)
}

// tooLarge are requests whose heads exceed the bound in different ways.
func tooLarge() []harness.Request {
	fields := func(n, size int) (fields []harness.Field) {
		for i := range n {
			fields = append(fields, harness.Field{Name: "x-filler-" + itoa(i), Value: strings.Repeat("f", size)})
		}
		return fields
	}
	return []harness.Request{
		{Target: "/", Header: fields(1, 40_000)},
		{Target: "/" + strings.Repeat("x", 40_000)},
		{Target: "/?" + strings.Repeat("x", 100_000)},
		{Target: "/", Header: fields(10, 4_000)},
		{Target: "/", Header: fields(20, 4_000)},
		{Target: "/", Header: fields(1000, 1)},
		{Target: "/", Header: fields(1, 120_000)},
	}
}
