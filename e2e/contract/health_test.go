package contract

import (
	"net/http"
	"regexp"
	"strings"

	"ssegateway/e2e/harness"
)

var health = section{title: "6 errors and health", core: true, cases: []contractCase{
	{name: "GET healthz: 200 {status ok}", run: func(t *T) {
		s := t.Shared()
		s.WantJSON(s.Call(http.MethodGet, "/healthz", ""), http.StatusOK, object{"status": "ok"})
	}},
	{name: "GET readyz: 200 {status ready, configured true}", run: func(t *T) {
		ready := t.Shared().Readiness(http.StatusOK)
		if ready.Status != "ready" || ready.Configured == nil || !*ready.Configured || len(ready.Reasons) > 0 {
			t.Errorf("%+v", ready)
		}
	}},
	{name: "HEAD healthz and readyz: the head of the answer to GET", run: func(t *T) {
		s := t.Shared()
		for _, target := range []string{"/healthz", "/readyz", "/healthz/", "/readyz/"} {
			get, head := s.Call(http.MethodGet, target, ""), s.Call(http.MethodHead, target, "")
			if head.Status != http.StatusOK || head.Body != "" || head.Header.Get("Content-Length") != itoa(len(get.Body)) || head.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s: %d %v %q", target, head.Status, head.Header, head.Body)
			}
		}
	}},
	{name: "health is no stream and causes no callback", run: func(t *T) {
		s := t.Shared()
		for _, target := range []string{"/healthz", "/readyz", "/healthz/", "/readyz/"} {
			x := s.Begin(harness.Request{Target: target}, harness.Script{})
			if got := x.Reply(); got.Status != http.StatusOK {
				t.Errorf("%s: %d %s", target, got.Status, got.Body)
			}
			s.wantNoCallback(x.key)
		}
	}},
	{name: "send with a slash behind it is send, and a token that is gone its only 404", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		s.WantStatusOK(s.Call(http.MethodPost, "/internal/send/", encode(object{"token": x.token, "event": object{"data": "x"}}), "Content-Type", "application/json"), "ok")
		x.WantEvents("x")
		s.WantError(s.Call(http.MethodPost, "/internal/send/", `{"token":"x"}`, "Content-Type", "application/json"), 404, "TOKEN_NOT_FOUND", "")
	}},
	{name: "errors, everywhere: the status and {error: {message, code}}", run: func(t *T) {
		s := t.Shared()
		for _, c := range []struct {
			method, path, body string
			status             int
		}{
			{"POST", "/stream", "", 405},
			{"DELETE", "/", "", 405},
			{"GET", sendPath, "", 405},
			{"POST", "/healthz", "", 405},
			{"POST", sendPath, "{", 400},
			{"POST", sendPath, "{}", 400},
			{"POST", sendPath, `{"token":"x"}`, 404},
			{"POST", sendPath, strings.Repeat(" ", 2<<20), 413},
		} {
			s.WantError(s.Call(c.method, c.path, c.body, "Content-Type", "application/json"), c.status, "", "")
		}
		s.WantError(s.Call("POST", sendPath, "{}", "Content-Type", "text/plain"), 415, "", "")
		for _, status := range []int{400, 401, 403, 404, 500} {
			x := s.Begin(harness.Request{Target: "/"}, connectAnswer(status))
			x.Refusal(status, "", "")
		}
	}},
}}

// secrets are put in all places that the log must not show.
const (
	secretQuery    = "canary-query-7f3a"
	secretCookie   = "canary-cookie-91bc"
	secretAuth     = "canary-auth-d02e"
	secretData     = "canary-data-5ee8"
	secretCallback = "canary-callback-c4d1"
	secretToken    = "canary-internal-token-aa17"
)

var logging = section{title: "6 log lines", core: true, cases: []contractCase{
	{name: "start, with the port", run: func(t *T) {
		s := t.Start()
		s.WantLog(`\b` + itoa(s.gw.Port) + `\b`)
	}},
	{name: "connect with token and path; callback result with action, token and status; close with token and reason", run: func(t *T) {
		s := t.Start()
		x := s.OpenWith(harness.Request{Target: "/logged/path?q=1"}, harness.Script{Connect: answerAlways(harness.Answer{Status: 202})})
		s.CloseStream(x.token)
		x.Disconnect()
		token := regexp.QuoteMeta(x.token)
		s.WantLog(token, `/logged/path\b`)
		s.WantLog(token, `\bconnect\b`, `\b202\b`)
		s.WantLog(token, `\bdisconnect\b`, `\b200\b`)
		s.WantLog(token, `\bserver_closed\b`)
	}},
	{name: "never a query string, a cookie, an authorization, event data or the callback URL's query", run: func(t *T) {
		backend := t.newBackend()
		s := t.StartWith(backend, "LOG_LEVEL=debug", "CALLBACK_URL="+backend.URL("/callback?key="+secretCallback))
		x := s.OpenWith(secretRequest("/"), harness.Script{})
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"name": "n", "data": secretData}}), "ok")
		s.Send(`{"token":"` + x.token + `","event":{"data":"` + secretData + `"},"close":1}`)
		s.Send(`{"token":"` + x.token + `","event":{"data":"` + secretData)
		s.CloseStream(x.token)
		x.Disconnect()
		for _, a := range []harness.Answer{
			{Status: 401, Body: secretData},
			{Status: 302, Header: http.Header{"Location": {"http://127.0.0.1/elsewhere?key=" + secretCallback}}},
			{Drop: true},
		} {
			refused := s.Begin(secretRequest("/refused"), harness.Script{Connect: answerAlways(a)})
			refused.Reply()
		}
		odd := s.Begin(secretRequest("//a/../%00"), harness.Script{Disconnect: answerOnce(harness.Answer{Drop: true}, harness.Answer{Status: 404, Body: secretData})})
		odd.Connect()
		odd.Leave()
		odd.callbacks("disconnect", 2)
		s.Barrier()
		s.wantNoSecrets()
	}},
	{name: "no secrets where the backend is unreachable or does not answer", slow: true, run: func(t *T) {
		port, err := harness.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		for _, callback := range []string{
			"http://user:" + secretCallback + "@127.0.0.1:" + itoa(port) + "/callback?key=" + secretCallback,
			"http://127.0.0.1:" + itoa(port) + "/callback?" + secretCallback,
			"http://no-such-host.invalid/callback?key=" + secretCallback,
		} {
			s := t.StartWith(nil, "LOG_LEVEL=debug", "CALLBACK_URL="+callback)
			if got := reply(t, s.Do(secretRequest("/"))); got.Status < 500 {
				t.Errorf("status %d", got.Status)
			}
			s.wantNoSecrets()
		}
		backend := t.newBackend()
		s := t.StartWith(backend, "LOG_LEVEL=debug", "CALLBACK_URL="+backend.URL("/callback?key="+secretCallback))
		s.wantExit = -1
		x := s.Begin(secretRequest("/"), harness.Script{Connect: hang, Disconnect: hang})
		x.Reply()
		x.Disconnect()
		s.wantNoSecrets()
		stop(t.T, s.gw, -1)
		s.wantNoSecrets()
	}},
}}

var ownLogging = section{title: "6 log lines by level and form", cases: []contractCase{
	{name: "plain [INFO] message key=value lines by default", run: func(t *T) {
		s := t.Start()
		x := s.Open("/logged?q=1")
		x.Leave()
		x.Disconnect()
		s.WantLog(`^\[INFO\] `, `\bport=`+itoa(s.gw.Port)+`\b`)
		s.WantLog(`^\[INFO\] `, `\btoken=`+x.token, `\bpath=/logged( |$)`)
		s.WantLog(`^\[INFO\] `, `\btoken=`+x.token, `\baction=connect\b`, `\bstatus=200\b`, `ms=\d`)
		s.WantLog(`^\[INFO\] `, `\btoken=`+x.token, `\baction=disconnect\b`, `\bstatus=200\b`, `ms=\d`)
		s.WantLog(`^\[INFO\] `, `\btoken=`+x.token, `\breason=client_closed\b`, `\bpath=/logged( |$)`)
	}},
	{name: "the detail of a close is logged", run: func(t *T) {
		s := t.Start()
		x := s.Open("/stalled")
		if err := x.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		x.Disconnect()
		s.WantLog(`\btoken=`+x.token, `\breason=error\b`, `\bdetail=unexpected_data\b`, `\bpath=/stalled( |$)`)
	}},
	{name: "X-Content-Type-Options: nosniff on every answer", run: func(t *T) {
		s := t.Start("CORS_ALLOWED_ORIGINS=https://app.example")
		x := s.Open("/")
		wantField(t, x.WantHead(), "X-Content-Type-Options", "nosniff")
		for range 3 { // on one connection: another part of the gateway serves the third
			got := s.SendObject(object{"token": x.token, "event": object{"data": "x"}})
			s.WantStatusOK(got, "ok")
			if got.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("send: %v", got.Header)
			}
		}
		for _, r := range []harness.Request{
			{Target: "/healthz"},
			{Target: "/readyz"},
			{Target: "/metrics"},
			{Target: "/internal/openapi.yaml"},
			{Target: "/internal/stats"},
			{Target: "/internal/x"},
			{Method: "POST", Target: "/"},
			{Target: "/", Header: []harness.Field{{Name: "x-filler", Value: strings.Repeat("f", 40_000)}}},
			{Method: "OPTIONS", Target: "*"},
			{Method: "OPTIONS", Target: "/", Header: append(fromOrigin("https://app.example").Header, harness.Field{Name: "access-control-request-method", Value: "GET"})},
		} {
			wantField(t, wantHead(t, s.Do(r)), "X-Content-Type-Options", "nosniff")
		}
		refused := s.Begin(harness.Request{Target: "/"}, connectAnswer(403))
		wantField(t, refused.WantHead(), "X-Content-Type-Options", "nosniff")
	}},
	{name: "a redirect by the backend is logged, with where it points to", run: func(t *T) {
		s := t.Start()
		s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: answerAlways(harness.Answer{Status: 307, Header: http.Header{"Location": {"/login?q=" + secretQuery}}})}).Reply()
		s.WantLog(`^\[WARN\] `, `\bstatus=307\b`, `\blocation=/login( |$)`)
		s.wantNoSecrets()
	}},
	{name: "a path is cut at 200 bytes, and it is said how long it was", run: func(t *T) {
		for _, format := range []string{"text", "json"} {
			s := t.Start("LOG_LEVEL=debug", "LOG_FORMAT="+format)
			x := s.Open("/" + strings.Repeat("p", 20_000))
			s.Event(x.token, "x")
			x.Leave()
			x.Disconnect()
			cut := `/p{199}…\(20001 bytes\)"`
			s.WantLog(x.token, `connect`, cut)
			s.WantLog(x.token, `send`, cut)
			s.WantLog(x.token, `client_closed`, cut)
			for _, line := range s.gw.Log.Lines(0) {
				if len(line) > 2000 {
					t.Errorf("a line of %d bytes", len(line))
				}
			}
		}
	}},
	{name: "of warnings that clients cause one is written a second, and how many were left out", run: func(t *T) {
		s := t.Start("MAX_CONNECTIONS=20")
		for range 20 {
			s.OpenWith(harness.Request{Target: "/"}, harness.Script{Connect: answerAlways(harness.Answer{Body: `{"topics":1}`})})
		}
		s.WantLog(`^\[WARN\] the answer to the connect callback is ignored token=`)
		s.WantLog(`^\[WARN\] the answer to the connect callback is ignored left_out=\d+$`)
		for range 20 {
			if got := reply(t, s.Do(harness.Request{Target: "/"})); got.Status != http.StatusServiceUnavailable {
				t.Fatalf("status %d", got.Status)
			}
		}
		s.WantLog(`^\[WARN\] a stream is turned away.* max_connections=20$`)
		s.WantLog(`^\[WARN\] a stream is turned away.* left_out=\d+$`)
		if lines := strings.Count(s.gw.Log.Text(), "[WARN]"); lines > 30 {
			t.Errorf("%d warnings", lines)
		}
	}},
	{name: "each send is logged at level debug: token, event name, data length, path", run: func(t *T) {
		s := t.Start("LOG_LEVEL=debug")
		x := s.Open("/sent?q=1")
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"name": "the-name", "data": "12345678901234567"}}), "ok")
		s.WantLog(`^\[DEBUG\] `, x.token, `\bthe-name\b`, `\b17\b`, `/sent( |$)`)
	}},
	{name: "sends are not logged at level info", run: func(t *T) {
		s := t.Start("LOG_LEVEL=info")
		x := s.Open("/sent")
		s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"name": "the-name", "data": "x"}}), "ok")
		x.Leave()
		s.WantLog(x.token, "client_closed")
		if strings.Contains(s.gw.Log.Text(), "the-name") {
			t.Error("the send was logged")
		}
	}},
	{name: "LOG_FORMAT=json: one JSON object a line", run: func(t *T) {
		s := t.Start("LOG_FORMAT=json", "LOG_LEVEL=debug")
		x := s.Open("/json?q=" + secretQuery)
		s.Event(x.token, secretData)
		x.Leave()
		s.WantLog(x.token, "client_closed")
		for _, line := range s.gw.Log.Lines(0) {
			var entry map[string]any
			if err := decode(line, &entry); err != nil || entry["level"] == nil || entry["msg"] == nil {
				t.Errorf("line %q: %v", line, err)
			}
		}
		s.wantNoSecrets()
	}},
	{name: "the internal token is never logged", run: func(t *T) {
		s := t.Start("LOG_LEVEL=debug", "INTERNAL_TOKEN="+secretToken)
		s.Send(`{"token":"x"}`)
		s.Call(http.MethodPost, sendPath, `{"token":"x"}`, "Content-Type", "application/json", "Authorization", "Bearer "+secretToken)
		s.Call(http.MethodPost, sendPath, `{"token":"x"}`, "Content-Type", "application/json", "Authorization", "Bearer "+secretToken+"x")
		s.wantNoSecrets()
	}},
	{name: "a malformed request leaves no secret in the log", run: func(t *T) {
		s := t.Start("LOG_LEVEL=debug")
		for _, raw := range []string{
			"GET /?q=" + secretQuery + " HTTP/1.1\r\nHost: x\r\nBad Header: " + secretAuth + "\r\n\r\n",
			"GET /%zz?q=" + secretQuery + " HTTP/1.1\r\nHost: x\r\n\r\n",
			"GET http://u:p@x/?q=" + secretQuery + " HTTP/1.1\r\nHost: x\r\n\r\n",
			"POST /?q=" + secretQuery + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nCookie: " + secretCookie + "\r\n\r\nx",
		} {
			reply(t, s.Do(harness.Request{Raw: raw}))
		}
		s.wantNoSecrets()
	}},
}}

func secretRequest(path string) harness.Request {
	return harness.Request{Target: path + "?q=" + secretQuery, Header: []harness.Field{
		{Name: "cookie", Value: "session=" + secretCookie},
		{Name: "authorization", Value: "Bearer " + secretAuth},
		{Name: "referer", Value: "https://app.example/?q=" + secretQuery},
	}}
}

// answerOnce gives the first answer once, and after that the other one.
func answerOnce(first, then harness.Answer) func(*harness.Callback) harness.Answer {
	once := make(chan harness.Answer, 1)
	once <- first
	return func(*harness.Callback) harness.Answer {
		select {
		case a := <-once:
			return a
		default:
			return then
		}
	}
}

func (s *Site) wantNoSecrets() {
	s.t.Helper()
	for _, line := range s.gw.Log.Lines(0) {
		for _, secret := range []string{secretQuery, secretCookie, secretAuth, secretData, secretCallback, secretToken} {
			if strings.Contains(line, secret) {
				s.t.Errorf("%s in the log: %s", secret, line)
			}
		}
	}
}
