package relay

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ssegateway/e2e/harness"
)

const holdType = "application/vnd.ssegateway+json"

func fields(pairs ...string) (all []harness.Field) {
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, harness.Field{Name: pairs[i], Value: pairs[i+1]})
	}
	return all
}

var own = regexp.MustCompile(`^Sse-Gateway-(Token: [0-9a-f-]{36}|Position: [0-9A-Z]{10}-[0-9]+)$`)

// The gateway's own fields are never a client's, in whatever spelling, and those of the application never reach a client.
func TestOwnFields(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		a := startApp(t, func(c *call) bool {
			head := "Sse-Gateway-Token: " + c.token + "\r\nSSE_GATEWAY_POSITION: x\r\nsse-gateway_Anything: y\r\nsse-gateway-: z\r\nSse-Gateway-Token: 2\r\nX-App: 1\r\n"
			switch c.RequestURI {
			case "/app/stream":
				c.say(strings.Replace(stream, "\r\n", "\r\n"+head, 1) + "data: x\n\n")
				return false
			case "/app/held":
				c.say("HTTP/1.1 200 OK\r\n" + head + "Content-Type: " + holdType + "\r\nContent-Length: 27\r\n\r\n" + `{"events":[{"data":"held"}]}`[:27])
			default:
				c.say(strings.Replace(plain("x"), "\r\n", "\r\n"+head, 1))
			}
			return true
		})
		s := start(t, k, a)
		for _, target := range []string{"/app", "/app/stream", "/app/held"} {
			for _, names := range [][]string{
				{"sse-gateway-token"},
				{"sse_gateway_token"},
				{"sse-gateway_token", "sse_gateway-position"},
				{"sse-gateway-"},
				{"sse_gateway_"},
				{"sse-gateway-token", "sse-gateway-token", "sse-gateway-token"},
				{"Sse-Gateway-Token"},
				{"SSE-GATEWAY-POSITION", "sSe_gAtEwAy_x"},
			} {
				r := harness.Request{Method: "POST", Target: target, Body: []byte("q")}
				for _, name := range names {
					r.Header = append(r.Header, fields(name, "forged")...)
				}
				_, head := s.status(r, http.StatusOK)
				for _, f := range head.Header {
					if strings.HasPrefix(strings.ReplaceAll(strings.ToLower(f.Name), "_", "-"), "sse-gateway-") {
						t.Errorf("%s: the client got %v", target, f)
					}
				}
				got := a.next(t)
				lines := got.own()
				slices.Sort(lines)
				if len(lines) != 2 || !own.MatchString(lines[0]) || !own.MatchString(lines[1]) || lines[0][:14] == lines[1][:14] || strings.Contains(got.head, "forged") {
					t.Errorf("%v: the application got %q", names, got.head)
				}
			}
		}
		// A field that only begins alike is a client's own.
		s.status(harness.Request{Target: "/app", Header: fields("sse-gatewayx", "1", "x-sse-gateway-token", "2")}, http.StatusOK)
		if got := a.next(t); !strings.Contains(got.head, "Sse-Gatewayx: 1\r\n") || !strings.Contains(got.head, "X-Sse-Gateway-Token: 2\r\n") {
			t.Errorf("%q", got.head)
		}
	})
}

// A client names a field as one of the connection to have it dropped: the gateway's own fields come after that.
func TestFieldsOfTheConnection(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		a := startApp(t, func(c *call) bool { c.say(plain("x")); return true })
		s := start(t, k, a)
		s.status(harness.Request{Target: "/app", Header: fields("Connection", "Sse-Gateway-Token, X-Forwarded-For, X-Mine", "X-Mine", "1", "X-Forwarded-For", "9.9.9.9")}, http.StatusOK)
		if got := a.next(t); len(got.own()) != 2 || !strings.Contains(got.head, "X-Forwarded-For: 127.0.0.1\r\n") || strings.Contains(got.head, "X-Mine") {
			t.Errorf("%q", got.head)
		}
	}, http1...)
}

// Nobody can have a stream held, and topics granted, by what the application only stores and gives out again.
func TestForgedHold(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		const file = `{"topics":["everything"],"subject":"admin"}`
		field := ""
		a := startApp(t, func(c *call) bool {
			given := strings.NewReplacer("<token>", c.token, "<TOKEN>", strings.ToUpper(c.token)).Replace(field)
			c.say(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: %s\r\n%sContent-Length: %d\r\n\r\n%s", holdType, given, len(file), file))
			return true
		})
		s := start(t, k, a)
		stale := ""
		for i, name := range []string{
			"", "Sse-Gateway-Token: \r\n", "Sse-Gateway-Token: 00000000-0000-4000-8000-000000000000\r\n", "Sse-Gateway-Token: <stale>\r\n", "Sse-Gateway-Token: <TOKEN>\r\n",
			"Sse_Gateway_Token: <token>\r\n", "Sse-Gateway-Token: x<token>\r\n", "Sse-Gateway-Token: <stale>\r\nSse-Gateway-Token: <token>\r\n", "Content-Encoding: gzip\r\nSse-Gateway-Token: <token>\r\n",
		} {
			field = strings.ReplaceAll(name, "<stale>", stale)
			x, head := s.status(harness.Request{Target: "/app"}, http.StatusOK)
			if head.Get("Content-Type") != holdType {
				t.Errorf("%q: %+v", name, head)
			}
			end(t, x, file, harness.Clean)
			stale = a.next(t).token
			states, err := s.Connections() // one whose answer is passed through is pending until its handler is over
			for token, state := range states {
				if state != "pending" {
					t.Errorf("%d: %s is %s", i, token, state)
				}
			}
			if err != nil {
				t.Error(err)
			}
		}
		field = "Sse-Gateway-Token: <token>\r\n"
		_, head := s.status(harness.Request{Target: "/app"}, http.StatusOK)
		if head.Get("Content-Type") != "text/event-stream" {
			t.Errorf("%+v", head)
		}
		if n := s.Log.Count(harness.Patience, regexp.MustCompile("holds a stream has no")); n != 1 {
			t.Errorf("%d warnings", n)
		}
	})
}

// Whoever resolves a path behind the gateway sees no other one than the gateway has.
func TestDotSegments(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		a := startApp(t, func(c *call) bool { c.say(plain(c.RequestURI)); return true })
		s := start(t, k, a)
		for _, target := range []string{
			"/app/..", "/app/.", "/app/../x", "/app/./x", "/app/%2e%2e/x", "/app/%2E%2e/x", "/app/.%2E/x", "/app/%2e./x", "/app/%2e", "/app/a\\..\\x", "/app/..\\x", "/app/%5c../x", "/app/..%5Cx", "/app/a%5c%2e%2e%5cx",
			"/app/..%2fx", "/app/%2e%2e%2fx", "/app/a%2F..", "/app/..;/x", "/app/..;a=b/x", "/app/%2e%2e;/x", "/app/..%3b/x", "/app/.;x", "/app//../x", "/app/../../internal/send",
		} {
			for _, query := range []string{"", "?a=b", "?/../"} {
				x, _ := s.status(harness.Request{Method: "POST", Target: target + query, Body: []byte("x")}, http.StatusBadRequest)
				if got, _, _ := x.Rest(harness.Patience); !strings.Contains(got, `"INVALID_REQUEST`) {
					t.Errorf("%s: %s", target, got)
				}
			}
		}
		for _, target := range []string{"/app/%zz", "/app/%2", "/app/%"} { // malformed: over HTTP/2 the stream is reset
			if head, err := s.do(harness.Request{Target: target}).Head(harness.Patience); err == nil && head.Status != http.StatusBadRequest {
				t.Errorf("%s: %+v", target, head)
			}
		}
		if n := a.asked(); n > 0 {
			t.Errorf("the application was asked %d times", n)
		}
		for _, target := range []string{
			"/app/...", "/app/.x", "/app/x.", "/app/%252e%252e/x", "/app/%25%32%65./x", "/app/a%2fb", "/app/a%5cb\\c", "/app//x", "/app/;a=..", "/app/a;../x", "/app/x?/../..", "/app/x?%2e%2e/", "/app/%c0%ae%c0%ae/x",
			"/app/|\"<>^`{}", "/app/\xc3\xa4", "/app?", "/app/?#/../x",
		} {
			x, _ := s.status(harness.Request{Target: target}, http.StatusOK)
			end(t, x, target, harness.Clean)
			if got := a.next(t); !strings.HasPrefix(got.head, "GET "+target+" HTTP/1.1\r\n") {
				t.Errorf("%q", got.head)
			}
		}
	})
}

// What is the gateway's own is never relayed; paths that only look like it are the application's.
func TestOwnPaths(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		a := startApp(t, func(c *call) bool { c.say(plain(c.RequestURI)); return true })
		s := start(t, k, a, "RELAY_PATHS=/")
		for _, target := range []string{"/internal", "/internal?x", "/internal/", "/internal/send", "/internal/nothing", "/internal//x", "/internal/a%2fb", "/metrics", "/metrics?x", "/healthz", "/healthz/", "/healthz?x", "/readyz", "/readyz/"} {
			for _, method := range []string{"GET", "POST", "OPTIONS"} {
				x := s.do(harness.Request{Method: method, Target: target})
				if head, err := x.Head(harness.Patience); err != nil || head.Status == http.StatusOK && method != "GET" {
					t.Errorf("%s %s: %+v %v", method, target, head, err)
				}
			}
		}
		if n := a.asked(); n > 0 {
			t.Errorf("the application was asked %d times", n)
		}
		for _, target := range []string{"/", "/Internal/send", "/INTERNAL", "//internal/send", "/%69nternal/send", "/internal%2fsend", "/internalx", "/internal;/send", "/Metrics", "/metrics/", "/%6detrics", "/healthz/x", "/healthz%2f", "/Healthz", "/readyz;"} {
			x, _ := s.status(harness.Request{Target: target}, http.StatusOK)
			end(t, x, target, harness.Clean)
			a.next(t)
		}
	})
}

// A target in absolute form is its path, by which it is relayed or not.
func TestAbsoluteForm(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		a := startApp(t, func(c *call) bool { c.say(plain(c.RequestURI)); return true })
		s := start(t, k, a, "RELAY_PATHS=/app,/")
		for target, status := range map[string]int{
			"http://app.example/app?x": 200, "HTTPS://app.example/app": 200, "http://app.example": 200, "http://app.example/internal/send": 403, "http://app.example/metrics": 403, "http://app.example/app/../x": 400,
			"http://u@app.example/app": 400, "ftp://app.example/app": 400, "http://app.example:x/app": 400,
		} {
			s.status(harness.Request{Method: "POST", Target: target, Host: "app.example", Body: []byte("x")}, status)
			if status == 200 {
				if got := a.next(t); !strings.HasPrefix(got.RequestURI, "/") || got.Host != "app.example" {
					t.Errorf("%s: %q", target, got.head)
				}
			}
		}
		if n := a.asked(); n != 3 {
			t.Errorf("the application was asked %d times", n)
		}
	}, http1...)
}

// Over HTTP/2 a method and a path are values, and may have what would divide a request line of HTTP/1.
func TestRequestLine(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		a := startApp(t, func(c *call) bool { c.say(plain(c.RequestURI)); return true })
		s := start(t, k, a)
		for _, r := range []harness.Request{
			{Method: "POST /callback?", Target: "/app"},
			{Method: "GET /x HTTP/1.1\t", Target: "/app"},
			{Method: "GET\tx", Target: "/app"},
			{Method: " GET", Target: "/app"},
			{Method: "G(T", Target: "/app"},
			{Method: "GÄT", Target: "/app"},
			{Method: "GET", Target: "/app HTTP/1.1"},
			{Method: "GET", Target: "/app", Header: fields("host", "other")},
			{Method: "GET", Target: "/app", Host: "a b"},
			{Method: "GET", Target: "/app", Host: "a/b"},
			{Method: "GET", Target: "/app", Host: "u@a"},
			{Method: "POST", Target: "/app", Body: []byte("x"), Header: fields("content-length", "2")},
		} {
			x := s.do(r)
			if head, err := x.Head(harness.Patience); err == nil && head.Status != http.StatusBadRequest {
				t.Errorf("%+v: %+v", r, head)
			}
		}
		if n := a.asked(); n > 0 {
			t.Errorf("the application was asked %d times: %q", n, a.next(t).head)
		}
	}, http2...)
}

// What asks for another protocol, or for none that is relayed, does not reach the application.
func TestUpgrades(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		a := startApp(t, func(c *call) bool { c.say(plain("plain")); return true })
		s := start(t, k, a)
		for _, offer := range []string{"websocket", "WebSocket", "h2c, websocket", "websocket/13", "foo , WEBSOCKET"} {
			x, _ := s.status(harness.Request{Target: "/app", Header: fields("Connection", "keep-alive, Upgrade", "Upgrade", offer, "Sec-WebSocket-Key", "x")}, http.StatusNotImplemented)
			if got, _, _ := x.Rest(harness.Patience); !strings.Contains(got, "UPGRADE_NOT_SUPPORTED") || !strings.Contains(got, "route this path around") {
				t.Errorf("%q", got)
			}
		}
		if n := a.asked(); n > 0 {
			t.Errorf("the application was asked %d times", n)
		}
		for _, offer := range []string{"h2c", "TLS/1.0", "h2c, foo/2", "foo\tbar"} {
			x, _ := s.status(harness.Request{Target: "/app", Header: fields("Connection", "Upgrade, HTTP2-Settings", "Upgrade", offer, "HTTP2-Settings", "AAMAAABkAAQAAP__", "X-Mine", "1")}, http.StatusOK)
			end(t, x, "plain", harness.Clean)
			if got := a.next(t); strings.Contains(got.head, "Upgrade") || strings.Contains(strings.ToLower(got.head), "http2-settings") || !strings.Contains(got.head, "X-Mine: 1") {
				t.Errorf("%q", got.head)
			}
		}
	}, http1...)
}

func TestMethods(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		a := startApp(t, func(c *call) bool { c.say(plain("plain")); return true })
		s := start(t, k, a, "CORS_ALLOWED_ORIGINS=https://page.example")
		for _, method := range []string{"CONNECT", "TRACE"} {
			if method == "CONNECT" && slices.Contains(http2, k.Name) {
				continue // has no path there
			}
			_, head := s.status(harness.Request{Method: method, Target: "/app", Header: fields("origin", "https://page.example")}, http.StatusMethodNotAllowed)
			if head.Get("Allow") != "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" {
				t.Errorf("%+v", head)
			}
		}
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} { // what a page may send is refused so that it can read why
			_, head := s.status(harness.Request{Method: method, Target: "/app/../x", Header: fields("origin", "https://page.example")}, http.StatusBadRequest)
			if head.Get("Access-Control-Allow-Origin") != "https://page.example" {
				t.Errorf("%s: %+v", method, head)
			}
		}
		if n := a.asked(); n > 0 {
			t.Errorf("the application was asked %d times", n)
		}
		// A preflight is the application's, and nothing is added to what it says.
		_, head := s.status(harness.Request{Method: "OPTIONS", Target: "/app", Header: fields("origin", "https://page.example", "access-control-request-method", "POST")}, http.StatusOK)
		for _, f := range head.Header {
			if strings.HasPrefix(strings.ToLower(f.Name), "access-control") {
				t.Errorf("%+v", head)
			}
		}
		if a.next(t).Method != http.MethodOptions {
			t.Error("the preflight was not passed on")
		}
	})
}

// Nobody can forge a callback: the gateway does not start where that would be possible, and where callbacks prove
// themselves it never adds the proof to what a client sent.
func TestForgedCallbacks(t *testing.T) {
	t.Parallel()
	k := kinds[0]
	a := startApp(t, func(c *call) bool { c.say(plain("{}")); return true })
	callback := "CALLBACK_URL=http://" + a.Addr().String() + "/app/callback"
	p, err := harness.Run(harness.Command{Args: k.Command, Env: []string{"RELAY_URL=http://" + a.Addr().String(), "RELAY_PATHS=/x,/app", callback}})
	if err != nil {
		t.Fatal(err)
	}
	if code, err := p.Exit(harness.Patience); code != 1 || err != nil || !strings.Contains(p.Log.Text(), "RELAY_PATHS") || !strings.Contains(p.Log.Text(), "CALLBACK_SIGNING_SECRET") {
		t.Errorf("exit code %d, %v: %s", code, err, p.Log.Text())
	}
	s := start(t, k, a, callback, "CALLBACK_SIGNING_SECRET=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "CALLBACK_TOKEN=secret")
	s.status(harness.Request{Method: "POST", Target: "/app/callback", Body: []byte(`{"action":"connect"}`)}, http.StatusOK)
	forged := a.next(t)
	s.do(harness.Request{Target: "/stream"})
	genuine := a.next(t)
	for _, proof := range []string{"Webhook-Id", "Webhook-Timestamp", "Webhook-Signature", "Authorization"} {
		if forged.Header.Get(proof) != "" || genuine.Header.Get(proof) == "" {
			t.Errorf("%s: forged %q, genuine %q", proof, forged.Header.Get(proof), genuine.Header.Get(proof))
		}
	}
}
