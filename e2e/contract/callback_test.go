package contract

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"ssegateway/e2e/harness"
)

var callbacks = section{title: "3 gateway to backend", core: true, cases: []contractCase{
	{name: "connect is a POST of JSON with action, token, request.url and request.headers", exact: true, run: func(t *T) {
		x := t.Shared().Open("/raw/path?and=query")
		c := x.Connect()
		wantCallback(t, c, []string{"action", "token", "position", "request"})
		if c.Action != "connect" || c.URL != "/raw/path?and=query" {
			t.Errorf("body %s", c.Body)
		}
	}},
	{name: "disconnect is a POST of JSON with action, reason, token and the same request", run: func(t *T) {
		s := t.Shared()
		x := s.OpenWith(harness.Request{Target: "//a/../b?x=%00", Header: []harness.Field{
			{Name: "cookie", Value: "a=b"}, {Name: "x-bytes", Value: "caf\xe9 <&>\u2028"},
		}}, harness.Script{})
		s.CloseStream(x.token)
		c := x.Disconnect()
		wantCallback(t, c, []string{"action", "token", "request", "reason", "detail"})
		var connect, disconnect struct{ Request any }
		if decode(string(x.Connect().Body), &connect) != nil || decode(string(c.Body), &disconnect) != nil || connect.Request == nil {
			t.Fatalf("bodies %s and %s", x.Connect().Body, c.Body)
		}
		if diff := cmp.Diff(connect.Request, disconnect.Request); diff != "" {
			t.Errorf("request of the disconnect (-connect +disconnect):\n%s", diff)
		}
	}},
	{name: "every header, names in lower case, host included, each value one string", exact: true, run: func(t *T) {
		s := t.Shared()
		names := []string{"Accept", "USER-AGENT", "x-MiXeD-Case", "Last-Event-ID", "Authorization", "Cache-Control", "X-Empty", "Origin"}
		values := []string{"text/event-stream", "A Browser/1.0 (with; comments)", "Value", "42", "Bearer a.b.c", "no-cache", "", "https://app.example"}
		r := harness.Request{Target: "/headers", Host: "Some.Host:8080"}
		for i, name := range names {
			if !t.http1() {
				name = strings.ToLower(name)
			}
			r.Header = append(r.Header, harness.Field{Name: name, Value: values[i]})
		}
		x := s.OpenWith(r, harness.Script{})
		want := map[string]string{"host": "Some.Host:8080", harness.KeyHeader: x.key}
		for i, name := range names {
			want[strings.ToLower(name)] = values[i]
		}
		if diff := cmp.Diff(want, x.Connect().Headers); diff != "" {
			t.Errorf("request.headers (-want +got):\n%s", diff)
		}
	}},
	{name: "headers of the connection itself are headers too", run: func(t *T) {
		x := t.Shared().OpenWith(harness.Request{Target: "/", Header: []harness.Field{
			{Name: "Connection", Value: "keep-alive"}, {Name: "Upgrade-Insecure-Requests", Value: "1"}, {Name: "TE", Value: "trailers"},
		}}, harness.Script{})
		got := x.Connect().Headers
		if got["connection"] != "keep-alive" || got["te"] != "trailers" || got["upgrade-insecure-requests"] != "1" {
			t.Errorf("request.headers %v", got)
		}
	}},
	{name: "repeated headers are joined with comma and blank, cookie with semicolon and blank", run: func(t *T) {
		x := t.Shared().OpenWith(harness.Request{Target: "/", Header: []harness.Field{
			{Name: "x-repeated", Value: "one"},
			{Name: "cookie", Value: "a=1"},
			{Name: "x-between", Value: "x"},
			{Name: "x-repeated", Value: "two, three"},
			{Name: "cookie", Value: "b=2; c=3"},
			{Name: "x-repeated", Value: "four"},
			{Name: "cookie", Value: "d=4"},
		}}, harness.Script{})
		got := x.Connect().Headers
		if got["x-repeated"] != "one, two, three, four" || got["cookie"] != "a=1; b=2; c=3; d=4" {
			t.Errorf("x-repeated %q, cookie %q", got["x-repeated"], got["cookie"])
		}
	}},
	{name: "the same header in different cases is one header", run: func(t *T) {
		x := t.Shared().OpenWith(harness.Request{Target: "/", Header: []harness.Field{
			{Name: "X-Twice", Value: "1"}, {Name: "x-twice", Value: "2"}, {Name: "COOKIE", Value: "a=1"}, {Name: "cookie", Value: "b=2"},
		}}, harness.Script{})
		got := x.Connect().Headers
		if got["x-twice"] != "1, 2" || got["cookie"] != "a=1; b=2" {
			t.Errorf("x-twice %q, cookie %q", got["x-twice"], got["cookie"])
		}
	}},
	{name: "header bytes that are not UTF-8 are read as Latin-1", run: func(t *T) {
		x := t.Shared().OpenWith(harness.Request{Target: "/", Header: []harness.Field{
			{Name: "x-latin", Value: "caf\xe9 \xff\x80"},
			{Name: "x-utf8", Value: "café 日本 😀"},
			{Name: "x-joined", Value: "\xe4"},
			{Name: "x-joined", Value: "b"},
			{Name: "cookie", Value: "name=J\xfcrgen"},
			{Name: "x-json", Value: `"\u0041\` + "\t" + `</script>`},
		}}, harness.Script{})
		got := x.Connect().Headers
		want := map[string]string{
			"x-latin": "café ÿ\u0080", "x-utf8": "café 日本 😀", "x-joined": "ä, b", "cookie": "name=Jürgen", "x-json": `"\u0041\` + "\t" + `</script>`,
		}
		for name, value := range want {
			if got[name] != value {
				t.Errorf("%s: %q, want %q", name, got[name], value)
			}
		}
	}},

	{name: "webhook-id is on the disconnect, another for each connection", run: func(t *T) {
		s := t.Shared()
		seen := map[string]bool{}
		for range 5 {
			x := s.Open("/")
			s.CloseStream(x.token)
			id := x.Disconnect().Header.Values("Webhook-Id")
			if len(id) != 1 || id[0] == "" || seen[id[0]] {
				t.Fatalf("webhook-id %q, want a new one", id)
			}
			seen[id[0]] = true
		}
	}},
	{name: "redirects of a disconnect are not followed", run: func(t *T) {
		s := t.Start()
		x := s.OpenWith(harness.Request{Target: "/"}, harness.Script{Disconnect: answerAlways(harness.Answer{
			Status: http.StatusTemporaryRedirect, Header: http.Header{"Location": {"/elsewhere"}},
		})})
		s.wantExit = -1
		x.Leave()
		x.Disconnect()
		s.Barrier()
		if calls := s.backend.Calls(func(c *harness.Callback) bool { return c.Target == "/elsewhere" }); len(calls) > 0 {
			t.Errorf("the gateway followed a redirect: %s %s", calls[0].Method, calls[0].Target)
		}
	}},
	{name: "no proxy from the environment", run: func(t *T) {
		backend, proxy := t.newBackend(), t.newBackend()
		proxyURL := proxy.URL("")
		// 0.0.0.0 reaches this host, and net/http does not bypass proxies for it as it does for loopback addresses.
		s := t.StartWith(backend,
			"CALLBACK_URL=http://0.0.0.0:"+itoa(backend.Port)+"/callback",
			"HTTP_PROXY="+proxyURL, "http_proxy="+proxyURL, "HTTPS_PROXY="+proxyURL, "ALL_PROXY="+proxyURL, "all_proxy="+proxyURL)
		x := s.Open("/")
		x.Leave()
		x.Disconnect()
		if proxy.Accepted() > 0 {
			t.Error("the gateway connected to the proxy")
		}
	}},
	{name: "reply bodies over 64 KiB are not read", run: func(t *T) {
		s := t.Start()
		stopped := make(chan error, 1)
		x := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: func(*harness.Callback) harness.Answer {
			return harness.Answer{Write: func(w http.ResponseWriter) {
				// More than socket buffers hold: it can be written completely only if the gateway reads it.
				piece := make([]byte, 1<<20)
				for range 256 {
					if _, err := w.Write(piece); err != nil {
						stopped <- err
						return
					}
				}
				stopped <- nil
			}}
		}})
		if head := x.WantHead(); head.Status != http.StatusOK {
			t.Errorf("status %d, want 200: the body must be ignored", head.Status)
		}
		if err := <-stopped; err == nil {
			t.Error("the gateway read 256 MiB")
		}
	}},

	{name: "the backend may answer slowly", slow: true, run: func(t *T) {
		s := t.Start()
		release := make(chan struct{})
		x := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: acceptAfter(release)})
		x.Connect()
		pause(3500 * time.Millisecond)
		close(release)
		if head := x.WantHead(); head.Status != http.StatusOK {
			t.Errorf("status %d after 3.5 s", head.Status)
		}
	}},
	{name: "an empty body, {}, a body that is not JSON, one of 64 KiB and more: all are fine", run: func(t *T) {
		s := t.Shared()
		for _, body := range []string{
			"", "{}", " ", "null", "[]", "OK", "<html>", "{", "\xff\x00", `{"unknown":{"field":[1,2]}}`, `"a string"`,
			strings.Repeat("x", 64<<10), strings.Repeat("x", 64<<10+1), strings.Repeat("x", 300<<10),
		} {
			for _, contentType := range []string{"", "application/json", "text/html"} {
				header := http.Header{}
				if contentType != "" {
					header["Content-Type"] = []string{contentType}
				}
				x := s.OpenWith(harness.Request{Target: "/"}, harness.Script{Connect: answerAlways(harness.Answer{Body: body, Header: header})})
				x.Leave()
			}
		}
	}},
	{name: "the backend may send to the new token from inside the connect callback", run: func(t *T) {
		s := t.Shared()
		answers := make(chan Reply, 1)
		x := s.OpenWith(harness.Request{Target: "/"}, harness.Script{Connect: func(c *harness.Callback) harness.Answer {
			got, err := s.call(http.MethodPost, sendPath, strings.NewReader(encode(object{
				"token": c.Token, "event": object{"name": "welcome", "data": "from inside"},
			})), "Content-Type", "application/json")
			if err != nil {
				got.Body = err.Error()
			}
			answers <- got
			return harness.Answer{}
		}})
		s.WantStatusOK(<-answers, "buffered")
		x.Want("event: welcome\ndata: from inside\n\n")
	}},
	{name: "the backend may close an older token from inside the connect callback", run: func(t *T) {
		s := t.Shared()
		older := s.Open("/older")
		answers := make(chan Reply, 1)
		newer := s.OpenWith(harness.Request{Target: "/newer"}, harness.Script{Connect: func(*harness.Callback) harness.Answer {
			got, err := s.call(http.MethodPost, sendPath, strings.NewReader(encode(object{
				"token": older.token, "event": object{"data": "moved"}, "close": true,
			})), "Content-Type", "application/json")
			if err != nil {
				got.Body = err.Error()
			}
			answers <- got
			return harness.Answer{}
		}})
		s.WantStatusOK(<-answers, "ok")
		older.Want("data: moved\n\n")
		older.WantEnd()
		older.WantDisconnect("server_closed")
		s.Event(newer.token, "still here")
		newer.Want("data: still here\n\n")
	}},

	{name: "an idle callback connection that the backend closed, right after it answered, never turns into a refused client", run: func(t *T) {
		s := t.Start()
		for i := range 150 {
			closed := make(chan struct{})
			s.wantAccepted(i, harness.Answer{HangUp: true, Then: func() { close(closed) }})
			<-closed
		}
	}},
	{name: "an idle callback connection that the backend closed, some time later, never turns into a refused client", run: func(t *T) {
		s := t.Start()
		idle := 0
		for i := range 50 {
			s.wantAccepted(i, harness.Answer{})
			n, err := s.backend.CloseIdle(patience)
			if err != nil {
				t.Fatal(err)
			}
			idle += n
		}
		if idle == 0 {
			t.Error("there was no idle connection, so this case is not meaningful")
		}
	}},
	{name: "a backend that closes every callback connection is fine", run: func(t *T) {
		s := t.Start()
		for i := range 50 {
			s.wantAccepted(i, harness.Answer{Header: http.Header{"Connection": {"close"}}})
		}
	}},
	{name: "connect callbacks are never retried", run: func(t *T) {
		s := t.Start()
		var refused []*Stream
		for _, a := range []harness.Answer{{Status: 500}, {Status: 503}, {Status: 429}, {Status: 408}, {Drop: true}} {
			x := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: answerAlways(a)})
			x.Reply()
			refused = append(refused, x)
		}
		s.Barrier()
		for i, x := range refused {
			if calls := s.backend.Calls(action(x.key, "connect")); len(calls) != 1 {
				t.Errorf("connect %d was sent %d times", i, len(calls))
			}
		}
	}},
}}

// wantCallback checks what all callbacks have in common, and the fields.
func wantCallback(t *T, c *harness.Callback, fields []string) {
	t.Helper()
	if c.Method != http.MethodPost || c.Target != "/callback?key="+canaryCallback {
		t.Errorf("%s %s, want POST /callback with its query", c.Method, c.Target)
	}
	if mediaType, _, _ := strings.Cut(c.Header.Get("Content-Type"), ";"); mediaType != "application/json" {
		t.Errorf("Content-Type %q", c.Header.Get("Content-Type"))
	}
	var body struct {
		all     map[string]any
		Request map[string]any
	}
	if err := decode(string(c.Body), &body.all); err != nil {
		t.Fatal(err)
	}
	if err := decode(string(c.Body), &body); err != nil {
		t.Fatal(err)
	}
	for name := range body.all {
		if !slices.Contains(fields, name) {
			t.Errorf("field %q in %s", name, c.Body)
		}
	}
	for _, name := range fields {
		optional := name == "detail" || name == "position" && coreOnly // of the log, which is beyond the core
		if _, ok := body.all[name]; !ok && !optional {
			t.Errorf("no field %q in %s", name, c.Body)
		}
	}
	if len(body.Request) != 2 || body.Request["url"] == nil || body.Request["headers"] == nil {
		t.Errorf("request has other fields than url and headers: %s", c.Body)
	}
}

// wantAccepted opens a stream, which the backend must accept, and closes it again.
func (s *Site) wantAccepted(number int, connect harness.Answer) {
	s.t.Helper()
	x := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: answerAlways(connect)})
	if head := x.WantHead(); head.Status != http.StatusOK {
		s.t.Fatalf("client %d was refused with %d %s", number+1, head.Status, x.bodyText())
	}
	x.Leave()
	x.Disconnect()
}
