package contract

import (
	"cmp"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"ssegateway/e2e/harness"
)

var access = section{title: "7 who may call internal", cases: []contractCase{
	{name: "nothing configured: callers from a loopback address are served", run: func(t *T) {
		s := t.Shared()
		s.wantServed(s.client, s.endpoint)
		if got := s.Call(http.MethodGet, "/metrics", ""); got.Status != http.StatusOK {
			t.Errorf("metrics: %d %s", got.Status, quoted(got.Body))
		}
	}},
	{name: "a forwarding header or an Origin: 403 INTERNAL_FORBIDDEN, with a message that says how to configure access", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		hint := regexp.MustCompile(`INTERNAL_(ALLOW|ADDR|TOKEN)`)
		for _, header := range [][2]string{
			{"Forwarded", "for=192.0.2.1"},
			{"X-Forwarded-For", "192.0.2.1"},
			{"X-Forwarded-For", "127.0.0.1"},
			{"X-Forwarded-Proto", "https"},
			{"X-Forwarded-Host", "h"},
			{"X-Forwarded-Anything", "x"},
			{"X-Real-IP", "127.0.0.1"},
			{"Via", "1.1 proxy"},
			{"Origin", "https://app.example"},
			{"Origin", "null"},
			{"X-Forwarded-For", ""},
		} {
			got := s.Call(http.MethodPost, sendPath, encode(object{"token": x.token, "event": object{"data": "wrong"}}),
				"Content-Type", "application/json", header[0], header[1])
			if problem := got.notError(http.StatusForbidden, "INTERNAL_FORBIDDEN", ""); problem != "" || !hint.MatchString(got.Body) {
				t.Errorf("%s: %s: %s %s", header[0], header[1], problem, quoted(got.Body))
			}
			got = s.Call(http.MethodGet, "/metrics", "", header[0], header[1])
			if problem := got.notError(http.StatusForbidden, "INTERNAL_FORBIDDEN", ""); problem != "" {
				t.Errorf("metrics with %s: %s: %s", header[0], header[1], problem)
			}
		}
		s.Event(x.token, "right")
		x.Want("data: right\n\n")
	}},
	{name: "the mark of a content delivery network: 403", run: func(t *T) {
		s := t.Shared()
		for _, name := range []string{"CDN-Loop", "CF-Connecting-IP", "True-Client-IP", "X-Client-IP", "Fastly-Client-IP"} {
			got := s.Call(http.MethodGet, "/internal/stats", "", name, "192.0.2.1")
			if problem := got.notError(http.StatusForbidden, "INTERNAL_FORBIDDEN", ""); problem != "" {
				t.Errorf("%s: %s", name, problem)
			}
		}
	}},
	{name: "a caller on this host names an address, localhost, a name without a dot or one below .localhost; otherwise 403", run: func(t *T) {
		s := t.Shared()
		port := ":" + itoa(s.gw.Port)
		for host, want := range map[string]int{
			"127.0.0.1" + port: 200, "[::1]" + port: 200, "localhost": 200, "gateway" + port: 200, "a.localhost" + port: 200,
			"evil.example" + port: 403, "127.0.0.1.evil.example": 403, "localhost.evil.example" + port: 403,
		} {
			for _, target := range []string{"/internal/connections", "/metrics"} {
				got := reply(t, s.Do(harness.Request{Target: target, Host: host}))
				if got.Status != want {
					t.Errorf("%s as %s: %d %s", target, host, got.Status, quoted(got.Body))
				}
				if want == http.StatusForbidden {
					s.WantError(got, http.StatusForbidden, "INTERNAL_FORBIDDEN", "")
				}
			}
		}
	}},
	{name: "a page of this host is answered, and one of another site, by Sec-Fetch-Site or Origin, is not", run: func(t *T) {
		s := t.Shared()
		port := ":" + itoa(s.gw.Port)
		own := s.endpoint.Scheme() + "://localhost" + port
		for _, c := range []struct {
			site, origin string
			want         int
		}{
			{"none", "", 200},
			{"same-origin", "", 200},
			{"same-origin", own, 200},
			{"", own, 200},
			{"same-site", "", 403},
			{"cross-site", "", 403},
			{"same-site", "http://localhost:1", 403},
			{"", "http://localhost:1", 403},
			{"same-origin", "http://evil.example" + port, 403},
		} {
			r := harness.Request{Target: "/internal/stats", Host: "localhost" + port}
			if c.site != "" {
				r.Header = append(r.Header, harness.Field{Name: "sec-fetch-site", Value: c.site})
			}
			if c.origin != "" {
				r.Header = append(r.Header, harness.Field{Name: "origin", Value: c.origin})
			}
			if got := reply(t, s.Do(r)); got.Status != c.want {
				t.Errorf("%+v: %d %s", c, got.Status, quoted(got.Body))
			}
		}
	}},
	{name: "INTERNAL_ALLOW that has the loopback addresses lets them use any name", run: func(t *T) {
		s := t.Start("INTERNAL_ALLOW=127.0.0.0/8,::1")
		if got := reply(t, s.Do(harness.Request{Target: "/internal/stats", Host: "gateway.example"})); got.Status != http.StatusOK {
			t.Errorf("%d %s", got.Status, quoted(got.Body))
		}
		got := reply(t, s.Do(harness.Request{Target: "/internal/stats", Host: "gateway.example", Header: fromOrigin("http://gateway.example").Header}))
		s.WantError(got, http.StatusForbidden, "INTERNAL_FORBIDDEN", "")
	}},
	{name: "INTERNAL_ADDR on a loopback address: the same rule of names and pages, proxies are welcome", run: func(t *T) {
		port, err := harness.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		s := t.Start("INTERNAL_ADDR=127.0.0.1:" + itoa(port))
		e := harness.Endpoint{Addr: "127.0.0.1:" + itoa(port)}
		via := []harness.Field{{Name: "Via", Value: "1.1 proxy"}}
		for _, r := range []harness.Request{{}, {Host: "localhost"}, {Header: via}} {
			r.Target = "/internal/stats"
			if got := reply(t, do(t, e, r)); got.Status != http.StatusOK {
				t.Errorf("%+v: %d %s", r, got.Status, quoted(got.Body))
			}
		}
		for _, r := range []harness.Request{{Host: "evil.example"}, {Header: fromOrigin("http://evil.example").Header}} {
			r.Target = "/internal/stats"
			s.WantError(reply(t, do(t, e, r)), http.StatusForbidden, "INTERNAL_FORBIDDEN", "")
		}
	}},
	{name: "anyone else gets 403 INTERNAL_FORBIDDEN, whatever the method, path and body", run: func(t *T) {
		s := t.Shared()
		e := t.kind.At(otherAddress(t), s.gw.Port)
		client := e.Client()
		defer client.CloseIdleConnections()
		for _, c := range []struct{ method, path, body string }{
			{"POST", sendPath, `{"token":"x"}`},
			{"POST", sendPath, "{"},
			{"GET", sendPath, ""},
			{"PUT", sendPath, "x"},
			{"GET", "/internal/", ""},
			{"GET", "/internal/connections", ""},
			{"OPTIONS", sendPath, ""},
			{"GET", "/metrics", ""},
			{"GET", "/internal/x?y=1", ""},
		} {
			got, err := call(t, client, e, c.method, c.path, strings.NewReader(c.body), "Content-Type", "application/json")
			if err != nil {
				t.Fatal(err)
			}
			if problem := got.notError(http.StatusForbidden, "INTERNAL_FORBIDDEN", ""); problem != "" {
				t.Errorf("%s %s: %s", c.method, c.path, problem)
			}
		}
		// Streams and health are open to all clients.
		if head := wantHead(t, do(t, e, harness.Request{Target: "/"})); head.Status != http.StatusOK {
			t.Errorf("stream: status %d", head.Status)
		}
		if got, err := call(t, client, e, "GET", "/healthz", http.NoBody); err != nil || got.Status != http.StatusOK {
			t.Errorf("healthz: %v %v", got, err)
		}
	}},
	{name: "INTERNAL_ALLOW names further callers", run: func(t *T) {
		address := otherAddress(t)
		for _, allow := range []string{address + "/32", "10.255.0.0/16, " + address + "/24"} {
			s := t.Start("INTERNAL_ALLOW=" + allow)
			e := t.kind.At(address, s.gw.Port)
			client := e.Client()
			s.wantServed(client, e)
			s.wantServed(s.client, s.endpoint)
			if got, err := call(t, client, e, "GET", "/metrics", http.NoBody); err != nil || got.Status != http.StatusOK {
				t.Errorf("metrics: %d %v", got.Status, err)
			}
			client.CloseIdleConnections()
		}
	}},
	{name: "INTERNAL_ALLOW leaves all others out", run: func(t *T) {
		s := t.Start("INTERNAL_ALLOW=10.255.0.0/16")
		e := t.kind.At(otherAddress(t), s.gw.Port)
		client := e.Client()
		defer client.CloseIdleConnections()
		s.wantForbidden(client, e)
		s.wantServed(s.client, s.endpoint)
	}},
	{name: "INTERNAL_ADDR host:port moves it, without the loopback rule; the public port answers 403", run: func(t *T) {
		port, err := harness.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		s := t.Start("INTERNAL_ADDR=0.0.0.0:" + itoa(port))
		for _, host := range []string{"127.0.0.1", otherAddress(t)} {
			s.wantMoved(harness.Endpoint{Addr: net.JoinHostPort(host, itoa(port))})
		}
	}},
	{name: "INTERNAL_ADDR unix socket moves it; the public port answers 403", run: func(t *T) {
		dir, err := os.MkdirTemp("", "gw") // a short path: sockets have a limit of about 100 bytes
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		socket := filepath.Join(dir, "internal.sock")
		t.Start("INTERNAL_ADDR=unix:" + socket).wantMoved(harness.Endpoint{Addr: socket})
	}},
	{name: "moved: the public port never answers internal paths with a stream or a 404, nor with a callback", exact: true, run: func(t *T) {
		port, err := harness.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		s := t.Start("INTERNAL_ADDR=127.0.0.1:" + itoa(port))
		for _, target := range []string{"/internal/send", "/internal/", "/internal/no/such", "/internal/../x", "/internal/connections?x=1", "/metrics"} {
			x := s.Begin(harness.Request{Target: target}, harness.Script{})
			x.Refusal(http.StatusForbidden, "INTERNAL_FORBIDDEN", "")
			if calls := s.backend.Calls(func(c *harness.Callback) bool { return c.Key == x.key }); len(calls) > 0 {
				t.Errorf("%s: callback %s", target, calls[0].Body)
			}
		}
		wantStreams(s, []string{"/internal", "/%69nternal/send", "//internal/send", "/metrics/x"})
	}},
	{name: "INTERNAL_TOKEN: 401 UNAUTHORIZED without it, with it from anywhere", run: func(t *T) {
		const secret = "s3cret-of-some-length-4711"
		s := t.Start("INTERNAL_TOKEN=" + secret)
		s.wantToken(secret)
	}},
	{name: "INTERNAL_TOKEN_FILE: the same, from a file", run: func(t *T) {
		const secret = "s3cret-in-a-file-0815-4711"
		file := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Start("INTERNAL_TOKEN_FILE=" + file).wantToken(secret)
	}},
	{name: "INTERNAL_TOKEN on a listener of its own", run: func(t *T) {
		port, err := harness.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		const secret = "s3cret-of-some-length-4711"
		s := t.Start("INTERNAL_TOKEN="+secret, "INTERNAL_ADDR=127.0.0.1:"+itoa(port))
		e := harness.Endpoint{Addr: "127.0.0.1:" + itoa(port)}
		client := e.Client()
		defer client.CloseIdleConnections()
		for _, path := range []string{sendPath, "/metrics"} {
			got, err := call(t, client, e, "GET", path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			s.WantError(got, http.StatusUnauthorized, "UNAUTHORIZED", "")
		}
		s.wantServed(client, e, "Authorization", "Bearer "+secret)
		s.WantError(s.Call(http.MethodPost, sendPath, `{"token":"x"}`, "Content-Type", "application/json", "Authorization", "Bearer "+secret),
			http.StatusForbidden, "INTERNAL_FORBIDDEN", "")
	}},
	{name: "start-up warns of an INTERNAL_ADDR that answers everybody who reaches it", run: func(t *T) {
		for _, c := range []struct {
			host, setting string
			warns         bool
		}{
			{"0.0.0.0", "", true},
			{"", "", true},
			{"127.0.0.1", "", false},
			{"0.0.0.0", "INTERNAL_TOKEN=s3cret-of-some-length-4711", false},
			{"0.0.0.0", "INTERNAL_ALLOW=10.0.0.0/8", false},
		} {
			port, err := harness.FreePort()
			if err != nil {
				t.Fatal(err)
			}
			t.wantWarningAtStart("INTERNAL_ADDR", c.warns, "INTERNAL_ADDR="+c.host+":"+itoa(port), cmp.Or(c.setting, "LOG_LEVEL=info"))
		}
	}},
	{name: "start-up warns of /internal on the public port where other hosts are answered without a token", run: func(t *T) {
		const warning, open = "/internal shares the public port", "INTERNAL_ALLOW=10.0.0.0/8"
		t.wantWarningAtStart(warning, true, open)
		t.wantWarningAtStart(warning, false, open, "INTERNAL_TOKEN=s3cret-of-some-length-4711")
		t.wantWarningAtStart(warning, false)
	}},
}}

var cors = section{title: "2 CORS", cases: []contractCase{
	{name: "off by default", run: func(t *T) {
		x := t.Shared().OpenWith(fromOrigin("https://app.example"), harness.Script{})
		for _, f := range x.WantHead().Header {
			if strings.HasPrefix(strings.ToLower(f.Name), "access-control-") {
				t.Errorf("%s: %s", f.Name, f.Value)
			}
		}
	}},
	{name: "CORS_ALLOWED_ORIGINS applies to streams of these origins", run: func(t *T) {
		s := t.Start("CORS_ALLOWED_ORIGINS=https://app.example,https://other.example:8443")
		for _, origin := range []string{"https://app.example", "https://other.example:8443"} {
			head := s.OpenWith(fromOrigin(origin), harness.Script{}).WantHead()
			wantField(t, head, "Access-Control-Allow-Origin", origin)
			if !strings.Contains(strings.ToLower(head.Get("Vary")), "origin") {
				t.Errorf("Vary %q, want Origin", head.Get("Vary"))
			}
		}
		for _, origin := range []string{"https://evil.example", "http://app.example", "https://app.example.evil.example", "null"} {
			x := s.Begin(fromOrigin(origin), harness.Script{})
			if got := x.WantHead().Get("Access-Control-Allow-Origin"); got != "" {
				t.Errorf("origin %s got %q", origin, got)
			}
		}
	}},
	{name: "CORS applies to refusals too, and shows Retry-After", run: func(t *T) {
		const origin = "https://app.example"
		s := t.Start("CORS_ALLOWED_ORIGINS=" + origin)
		with := func(r harness.Request) harness.Request {
			r.Header = append(r.Header, fromOrigin(origin).Header...)
			return r
		}
		for _, r := range []harness.Request{
			{Target: "/", Header: []harness.Field{{Name: "x-filler", Value: strings.Repeat("f", 40_000)}}},
			{Target: "/" + strings.Repeat("x", 40_000)},
			{Target: "/", Body: []byte("x")},
			{Method: "HEAD", Target: "/"},
			{Method: "POST", Target: "/"},
		} {
			head := s.Begin(with(r), harness.Script{}).WantHead()
			if head.Status < 400 {
				t.Errorf("%s %.20s: status %d", r.Method, r.Target, head.Status)
			}
			wantField(t, head, "Access-Control-Allow-Origin", origin)
			wantField(t, head, "Access-Control-Allow-Credentials", "true")
			wantField(t, head, "Access-Control-Expose-Headers", "Retry-After")
		}
		head := s.Begin(with(harness.Request{Target: "/"}), harness.Script{Connect: answerAlways(harness.Answer{Status: 429, Header: http.Header{"Retry-After": {"7"}}})}).WantHead()
		wantField(t, head, "Access-Control-Allow-Origin", origin)
		wantField(t, head, "Access-Control-Expose-Headers", "Retry-After")
		wantField(t, head, "Retry-After", "7")
	}},
	{name: "CORS_ALLOWED_ORIGINS=*: any origin, without credentials, and the start says so", run: func(t *T) {
		s := t.Start("CORS_ALLOWED_ORIGINS=*")
		s.WantLog(`^\[WARN\] `, "CORS_ALLOWED_ORIGINS", "cookies")
		head := s.OpenWith(fromOrigin("https://app.example"), harness.Script{}).WantHead()
		wantField(t, head, "Access-Control-Allow-Origin", "*")
		if got := head.Get("Access-Control-Allow-Credentials"); got != "" {
			t.Errorf("Access-Control-Allow-Credentials %q, which browsers refuse with *", got)
		}
	}},
	{name: "CORS_ALLOWED_ORIGINS in another spelling, and null", run: func(t *T) {
		s := t.Start("CORS_ALLOWED_ORIGINS=HTTPS://App.Example:443,null")
		for _, origin := range []string{"https://app.example", "null"} {
			head := s.OpenWith(fromOrigin(origin), harness.Script{}).WantHead()
			wantField(t, head, "Access-Control-Allow-Origin", origin)
		}
	}},
	{name: "CORS never applies to internal", run: func(t *T) {
		const secret = "s3cret-of-some-length-4711"
		s := t.Start("CORS_ALLOWED_ORIGINS=https://app.example", "INTERNAL_TOKEN="+secret)
		for _, method := range []string{"POST", "OPTIONS"} {
			for _, authorization := range []string{"", "Bearer " + secret} {
				got := s.Call(method, sendPath, `{"token":"x"}`, "Content-Type", "application/json", "Origin", "https://app.example",
					"Authorization", authorization, "Access-Control-Request-Method", "POST")
				for name := range got.Header {
					if strings.HasPrefix(name, "Access-Control-") {
						t.Errorf("%s with authorization %q: %s: %v", method, authorization, name, got.Header[name])
					}
				}
			}
		}
	}},
	{name: "a preflight causes no callback", run: func(t *T) {
		s := t.Start("CORS_ALLOWED_ORIGINS=https://app.example")
		r := fromOrigin("https://app.example")
		r.Method = "OPTIONS"
		r.Header = append(r.Header, harness.Field{Name: "access-control-request-method", Value: "GET"}, harness.Field{Name: "access-control-request-headers", Value: "last-event-id"})
		x := s.Begin(r, harness.Script{})
		x.Reply()
		s.wantNoCallback(x.key)
	}},
}}

func fromOrigin(origin string) harness.Request {
	return harness.Request{Target: "/", Header: []harness.Field{{Name: "origin", Value: origin}}}
}

// otherAddress returns an IPv4 address of this machine that is not a loopback address. A
// connection to it has it as its source, too.
func otherAddress(t *T) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && ip.IP.IsGlobalUnicast() {
			return ip.IP.String()
		}
	}
	t.Fatal("this machine has only loopback addresses, so this case cannot run (a dummy interface is enough)")
	return ""
}

// wantServed checks that internal calls are served there: the answer is that a token is not found.
func (s *Site) wantServed(client *http.Client, e harness.Endpoint, header ...string) {
	s.t.Helper()
	got, err := call(s.t, client, e, http.MethodPost, sendPath, strings.NewReader(`{"token":"x"}`), append(header, "Content-Type", "application/json")...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.WantError(got, http.StatusNotFound, "TOKEN_NOT_FOUND", "Token not found")
}

func (s *Site) wantForbidden(client *http.Client, e harness.Endpoint, header ...string) {
	s.t.Helper()
	got, err := call(s.t, client, e, http.MethodPost, sendPath, strings.NewReader(`{"token":"x"}`), append(header, "Content-Type", "application/json")...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.WantError(got, http.StatusForbidden, "INTERNAL_FORBIDDEN", "")
}

// wantMoved checks that internal calls are served at e, and not on the public port.
func (s *Site) wantMoved(e harness.Endpoint) {
	s.t.Helper()
	client := e.Client()
	defer client.CloseIdleConnections()
	s.wantServed(client, e)
	s.wantServed(client, e, "X-Forwarded-For", "192.0.2.1", "Via", "1.1 proxy")
	x := s.Open("/")
	got, err := call(s.t, client, e, http.MethodPost, sendPath, jsonBody(object{"token": x.token, "event": object{"data": "moved"}}), "Content-Type", "application/json")
	if err != nil {
		s.t.Fatal(err)
	}
	s.WantStatusOK(got, "ok")
	x.Want("data: moved\n\n")
	if got, err := call(s.t, client, e, http.MethodGet, "/metrics", http.NoBody); err != nil || got.Status != http.StatusOK {
		s.t.Errorf("metrics there: %d %v", got.Status, err)
	}
	s.wantForbidden(s.client, s.endpoint)
	s.WantError(s.Call(http.MethodGet, "/metrics", ""), http.StatusForbidden, "INTERNAL_FORBIDDEN", "")
	s.WantError(s.Call(http.MethodPost, sendPath, encode(object{"token": x.token, "event": object{"data": "x"}}), "Content-Type", "application/json"),
		http.StatusForbidden, "INTERNAL_FORBIDDEN", "")
}

// wantToken checks that internal calls need the bearer token, and nothing else.
func (s *Site) wantToken(secret string) {
	s.t.Helper()
	x := s.Open("/")
	event := encode(object{"token": x.token, "event": object{"data": "wrong"}})
	for _, authorization := range []string{"", "Bearer", "Bearer ", "Bearer wrong", "Bearer " + secret + "x", "Bearer " + secret[1:], secret, "Basic " + secret, "Bearer " + strings.ToUpper(secret)} {
		for _, c := range []struct{ method, path, body string }{{"POST", sendPath, event}, {"POST", sendPath, "{"}, {"GET", sendPath, ""}, {"GET", "/metrics", ""}} {
			got := s.Call(c.method, c.path, c.body, "Content-Type", "application/json", "Authorization", authorization)
			if problem := got.notError(http.StatusUnauthorized, "UNAUTHORIZED", ""); problem != "" {
				s.t.Errorf("%s %s with Authorization %q: %s", c.method, c.path, authorization, problem)
			}
		}
	}
	s.WantError(s.Send(event), http.StatusUnauthorized, "UNAUTHORIZED", "")
	bearer := []string{"Authorization", "Bearer " + secret}
	s.wantServed(s.client, s.endpoint, bearer...)
	s.wantServed(s.client, s.endpoint, append(bearer, "X-Forwarded-For", "192.0.2.1", "X-Real-IP", "192.0.2.1")...)
	e := s.t.kind.At(otherAddress(s.t), s.gw.Port)
	client := e.Client()
	defer client.CloseIdleConnections()
	s.wantServed(client, e, bearer...)
	if got, err := call(s.t, client, e, http.MethodGet, "/metrics", http.NoBody, bearer...); err != nil || got.Status != http.StatusOK {
		s.t.Errorf("metrics: %d %v", got.Status, err)
	}
	got := s.Call(http.MethodPost, sendPath, encode(object{"token": x.token, "event": object{"data": "right"}}), append(bearer, "Content-Type", "application/json")...)
	s.WantStatusOK(got, "ok")
	x.Want("data: right\n\n")
}

// wantWarningAtStart starts a gateway, which has to log a warning that begins so, or must not.
func (t *T) wantWarningAtStart(begin string, want bool, settings ...string) {
	t.Helper()
	s := t.Start(settings...)
	s.Open("/").Leave() // it is logged after the lines of the start
	s.WantLog("client_closed")
	if got := strings.Contains(s.gw.Log.Text(), "[WARN] "+begin); got != want {
		t.Errorf("%q: warned %v", settings, got)
	}
}
