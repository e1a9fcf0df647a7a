package contract

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"time"

	"ssegateway/e2e/harness"
)

const grantType = "application/vnd.ssegateway+json"

// startRelay starts a gateway in front of an application, which relays all paths below /app.
func (t *T) startRelay(app http.HandlerFunc, settings ...string) *Site {
	t.Helper()
	server := httptest.NewServer(app)
	t.Cleanup(server.Close)
	return t.Start(append([]string{"RELAY_URL=" + server.URL, "RELAY_PATHS=/app"}, settings...)...)
}

// relay makes a request, and requires that status in the answer.
func (s *Site) relay(r harness.Request, status int) (*harness.Exchange, *harness.Head) {
	s.t.Helper()
	x := s.Do(r)
	head, err := x.Head(patience)
	if err != nil || head.Status != status {
		s.t.Fatalf("%s %s: %+v %v, want %d", r.Method, r.Target, head, err, status)
	}
	return x, head
}

// wantNext requires that the next bytes of an answer are these.
func (t *T) wantNext(x *harness.Exchange, text string) {
	t.Helper()
	if got, err := x.Next(len(text), patience); got != text {
		t.Fatalf("%q %v, want %q", got, err, text)
	}
}

// script is an application whose stream writes what the test sends, and ends as it says.
type appStream struct {
	write chan string // a piece; closed: the end
	gone  chan time.Time
	token chan string
	cut   chan struct{} // closed: it breaks off
}

func newAppStream() *appStream {
	return &appStream{make(chan string), make(chan time.Time, 1), make(chan string, 1), make(chan struct{})}
}

func (a *appStream) serve(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	a.token <- r.Header.Get("Sse-Gateway-Token")
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("X-App", "yes")
	w.Header().Set("Sse-Gateway-Secret", "x")
	_ = http.NewResponseController(w).Flush()
	for {
		select {
		case text, more := <-a.write:
			if !more {
				return
			}
			_, _ = io.WriteString(w, text)
			_ = http.NewResponseController(w).Flush()
		case <-a.cut:
			panic(http.ErrAbortHandler)
		case <-r.Context().Done():
			a.gone <- time.Now()
			return
		}
	}
}

var relaying = section{title: "20 relay", cases: []contractCase{
	{name: "relay: method, target, fields, body and answer go through as they are", run: func(t *T) {
		s := t.startRelay(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			var own []string
			for name := range r.Header {
				if strings.HasPrefix(strings.ToLower(strings.ReplaceAll(name, "_", "-")), "sse-gateway-") {
					own = append(own, name)
				}
			}
			w.Header().Set("X-Twice", "1")
			w.Header().Add("X-Twice", "2")
			w.Header().Set("Sse-Gateway-Anything", "x")
			w.WriteHeader(http.StatusTeapot)
			fmt.Fprintf(w, "%s %s %s %d %s %t %t %s %s", r.Method, r.RequestURI, r.Host, len(own), body,
				len(r.Header.Get("Sse-Gateway-Token")) == 36, strings.Contains(r.Header.Get("Sse-Gateway-Position"), "-"), r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Mine"))
		})
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "SEARCH"} {
			for _, target := range []string{"/app", "/app/a%2Fb//c;d=1?q=%20&r", "/app/%41?"} {
				body, text := []byte(nil), ""
				if method == "POST" || method == "PUT" || method == "PATCH" {
					text = strings.Repeat("0123456789", 5000)
					body = []byte(text)
				}
				x, head := s.relay(harness.Request{Method: method, Target: target, Host: "app.example", Body: body, Header: []harness.Field{
					{Name: "sse-gateway-token", Value: "forged"}, {Name: "sse_gateway_x", Value: "y"}, {Name: "x-forwarded-for", Value: "9.9.9.9"}, {Name: "x-mine", Value: "m"},
				}}, http.StatusTeapot)
				want := fmt.Sprintf("%s %s app.example 2 %s true true 127.0.0.1 m", method, target, text)
				if got, end, err := x.Rest(patience); got != want || end != harness.Clean {
					t.Fatalf("%.200q %v %v, want %.200q", got, end, err, want)
				}
				if head.Get("X-Twice") != "1, 2" || head.Get("Sse-Gateway-Anything") != "" {
					t.Errorf("%+v", head)
				}
			}
		}
		s.wantNoCallback("")
	}},
	{name: "relay: what is no request for the application is refused, and never reaches it", run: func(t *T) {
		s := t.startRelay(func(http.ResponseWriter, *http.Request) { t.Error("the application was asked") })
		for target, code := range map[string]string{
			"/app/../x": "INVALID_REQUEST_TARGET", "/app/%2e%2E/x": "INVALID_REQUEST_TARGET", "/app/a/.": "INVALID_REQUEST_TARGET", "/app/..%5cx": "INVALID_REQUEST_TARGET", "/app\\..\\x": "", "/app/%2e": "INVALID_REQUEST_TARGET",
		} {
			if code == "" {
				continue // is no path below /app
			}
			x, _ := s.relay(harness.Request{Target: target}, http.StatusBadRequest)
			if got, _, _ := x.Rest(patience); !strings.Contains(got, code) {
				t.Errorf("%s: %s", target, got)
			}
		}
		s.relay(harness.Request{Method: "TRACE", Target: "/app"}, http.StatusMethodNotAllowed)
	}},
	{name: "relay on HTTP 1.1: a WebSocket handshake is a 501, two lengths are a 400, and h2c is passed over", run: func(t *T) {
		s := t.startRelay(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("Upgrade"), "plain") })
		s.relay(harness.Request{Target: "/app", Header: []harness.Field{{Name: "Connection", Value: "Upgrade"}, {Name: "Upgrade", Value: "websocket"}}}, http.StatusNotImplemented)
		x, _ := s.relay(harness.Request{Target: "/app", Header: []harness.Field{{Name: "Connection", Value: "Upgrade, HTTP2-Settings"}, {Name: "Upgrade", Value: "h2c"}, {Name: "HTTP2-Settings", Value: "AAMAAABkAAQAAP__"}}}, http.StatusOK)
		t.wantNext(x, "plain")
		s.relay(harness.Request{Method: "POST", Target: "/app", Header: []harness.Field{{Name: "Content-Length", Value: "4"}, {Name: "Transfer-Encoding", Value: "chunked"}}, Body: []byte("0\r\n\r\n")}, http.StatusBadRequest)
	}},
	{name: "relay: other paths are streams as ever, and paths that only begin alike too", run: func(t *T) {
		s := t.startRelay(func(http.ResponseWriter, *http.Request) { t.Error("the application was asked") })
		s.Open("/application").Connect()
		s.Open("/").Connect()
	}},
	{name: "relay: an application that is away, silent, or speaks no HTTP", run: func(t *T) {
		answer := make(chan string, 1)
		l := harness.Listen(t, func(nc net.Conn) {
			if _, err := nc.Read(make([]byte, 4096)); err != nil {
				return
			}
			if text := <-answer; text != "" {
				_, _ = io.WriteString(nc, text)
				return
			}
			_, _ = io.Copy(io.Discard, nc) // until the gateway gives up
		})
		s := t.Start("RELAY_URL=http://"+l.Addr().String(), "RELAY_PATHS=/app", "RELAY_TIMEOUT_SECONDS=1")
		for _, c := range []struct {
			answer string
			status int
			code   string
		}{{"no HTTP\r\n\r\n", 502, "BACKEND_ERROR"}, {"HTTP/1.1 101 Switching Protocols\r\n\r\n", 502, "BACKEND_ERROR"}, {"", 504, "GATEWAY_TIMEOUT"}} {
			answer <- c.answer
			x, _ := s.relay(harness.Request{Method: "POST", Target: "/app", Body: []byte("x")}, c.status)
			if got, _, _ := x.Rest(patience); !strings.Contains(got, c.code) {
				t.Errorf("%q: %s", c.answer, got)
			}
		}
		_ = l.Close()
		x, _ := s.relay(harness.Request{Method: "POST", Target: "/app", Body: []byte("x")}, 503)
		if got, _, _ := x.Rest(patience); !strings.Contains(got, "BACKEND_UNAVAILABLE") {
			t.Error(got)
		}
	}},
	{name: "relay on HTTP 1.1: an unwanted body is not waited for, and one that does not come is a 400", run: func(t *T) {
		s := t.startRelay(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/app/broken":
				panic(http.ErrAbortHandler)
			case "/app/patient":
				_, _ = io.Copy(io.Discard, r.Body)
			}
			http.Error(w, "no", http.StatusRequestEntityTooLarge)
		})
		const bodyTime = 10 * time.Second
		length := harness.Field{Name: "Content-Length", Value: "1000000"} // Go's server reads nothing of that behind an answer
		for _, c := range []struct {
			target string
			status int
			within time.Duration
		}{{"/app/refused", http.StatusRequestEntityTooLarge, bodyTime / 2}, {"/app/broken", http.StatusServiceUnavailable, bodyTime / 2}, {"/app/patient", http.StatusBadRequest, bodyTime + patience}} {
			x := s.Do(harness.Request{Method: "POST", Target: c.target, Header: []harness.Field{length}})
			head, err := x.Head(c.within)
			if err != nil || head.Status != c.status {
				t.Fatalf("%s: %+v %v", c.target, head, err)
			}
			if got, end, _ := x.Rest(bodyTime / 2); end != harness.Clean || got == "" {
				t.Errorf("%s: %q %v", c.target, got, end)
			}
		}
	}},
	{name: "relay: a stream goes block by block, byte for byte, and ends as the application's does", run: func(t *T) {
		app := newAppStream()
		s := t.startRelay(app.serve)
		x, head := s.relay(harness.Request{Method: "POST", Target: "/app", Body: []byte("question")}, http.StatusOK)
		if head.Get("Content-Type") != "text/event-stream; charset=utf-8" || head.Get("X-App") != "yes" || head.Get("X-Accel-Buffering") != "no" ||
			head.Get("Cache-Control") != "no-cache" || head.Get("Sse-Gateway-Secret") != "" || head.Get("Content-Length") != "" {
			t.Errorf("%+v", head)
		}
		x.Begin(len(harness.Heartbeat), patience)
		app.write <- "data: a\n"
		app.write <- "\ndata: b\r\n\r\nda"
		t.wantNext(x, "data: a\n\ndata: b\r\n\r\n")
		app.write <- "ta: c\r\r: comment\n\n"
		t.wantNext(x, "data: c\r\r: comment\n\n")
		big := "data: " + strings.Repeat("x", 100_000) + "\n\n"
		app.write <- big
		t.wantNext(x, big)
		app.write <- "data: not whole\n"
		close(app.write)
		if rest, end, err := x.Rest(patience); rest != "" || end != harness.Clean {
			t.Errorf("%q %v %v", rest, end, err)
		}
		s.wantNoCallback("")
	}},
	{name: "relay: heartbeats come between blocks", run: func(t *T) {
		app := newAppStream()
		s := t.startRelay(app.serve, "HEARTBEAT_INTERVAL_SECONDS=1")
		x, _ := s.relay(harness.Request{Target: "/app"}, http.StatusOK)
		app.write <- "data: half"
		t.wantNext(x, strings.Repeat(harness.Heartbeat, 3)) // behind the one at the beginning
		app.write <- " whole\n\n"
		for { // heartbeats before it, and none within
			got, err := x.Next(len(harness.Heartbeat), patience)
			if err != nil {
				t.Fatal(err)
			}
			if got != harness.Heartbeat {
				if got != "data: half wh" {
					t.Fatalf("%q", got)
				}
				break
			}
		}
		t.wantNext(x, "ole\n\n")
	}},
	{name: "relay: the client leaves, and the application's request is cancelled at once", run: func(t *T) {
		app := newAppStream()
		s := t.startRelay(app.serve)
		x, _ := s.relay(harness.Request{Method: "POST", Target: "/app", Body: []byte("q")}, http.StatusOK)
		x.Begin(len(harness.Heartbeat), patience)
		x.Leave()
		select {
		case <-app.gone:
		case <-time.After(patience):
			t.Error("the application was not cancelled")
		}
	}},
	{name: "relay: the application breaks off, and the client's stream is cut", run: func(t *T) {
		app := newAppStream()
		s := t.startRelay(app.serve)
		x, _ := s.relay(harness.Request{Method: "POST", Target: "/app", Body: []byte("q")}, http.StatusOK)
		app.write <- "data: a\n\n"
		t.wantNext(x, "data: a\n\n")
		close(app.cut)
		if rest, end, _ := x.Rest(patience); rest != "" || end != harness.Cut {
			t.Errorf("%q %v", rest, end)
		}
	}},
	{name: "relay: a send is a 409, a PATCH and streaming into it too, GET says relay, and DELETE stops properly", run: func(t *T) {
		app := newAppStream()
		s := t.startRelay(app.serve)
		x, _ := s.relay(harness.Request{Method: "POST", Target: "/app", Body: []byte("q")}, http.StatusOK)
		x.Begin(len(harness.Heartbeat), patience)
		token := <-app.token
		s.WantError(s.Send(encode(object{"token": token, "event": object{"data": "x"}})), 409, "CONNECTION_RELAYED", "")
		s.WantError(s.Patch(token, `{"topics":{"add":["a"]}}`), 409, "CONNECTION_RELAYED", "")
		s.WantError(s.Call("POST", "/internal/connections/"+token+"/stream", "data: x\n\n", "Content-Type", "text/event-stream"), 409, "CONNECTION_RELAYED", "")
		if got := s.Call("GET", "/internal/connections/"+token, ""); !strings.Contains(got.Body, `"kind":"relay"`) {
			t.Errorf("%s", got.Body)
		}
		s.WantStatusOK(s.Call("DELETE", "/internal/connections/"+token, ""), "ok")
		if rest, end, _ := x.Rest(patience); rest != "" || end != harness.Clean {
			t.Errorf("%q %v", rest, end)
		}
		<-app.gone
		s.wantNoCallback("")
	}},
	{name: "relay: hold makes a connection like any other, and only with the token", run: func(t *T) {
		s := t.startRelay(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", grantType)
			if r.URL.Path != "/app/forged" {
				w.Header().Set("Sse-Gateway-Token", r.Header.Get("Sse-Gateway-Token"))
			}
			fmt.Fprintf(w, `{"events":[{"data":"%s"}],"subject":"u"}`, r.Header.Get("Sse-Gateway-Token"))
		})
		x, head := s.relay(harness.Request{Method: "POST", Target: "/app/forged", Body: []byte("q")}, http.StatusOK)
		if got, end, _ := x.Rest(patience); head.Get("Content-Type") != grantType || !strings.HasPrefix(got, `{"events"`) || end != harness.Clean {
			t.Errorf("%+v %q", head, got)
		}
		x, head = s.relay(harness.Request{Method: "POST", Target: "/app/7", Body: []byte("q"), Header: []harness.Field{{Name: harness.KeyHeader, Value: "held"}}}, http.StatusOK)
		if head.Get("Content-Type") != "text/event-stream" || head.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%+v", head)
		}
		t.wantNext(x, "data: ")
		token, err := x.Next(36, patience)
		if err != nil {
			t.Fatal(err)
		}
		t.wantNext(x, "\n\n")
		s.Event(token, "sent")
		t.wantNext(x, "data: sent\n\n")
		s.CloseStream(token)
		if rest, end, _ := x.Rest(patience); rest != "" || end != harness.Clean {
			t.Errorf("%q %v", rest, end)
		}
		calls, err := s.backend.Await(patience, 1, func(c *harness.Callback) bool { return c.Token == token })
		if err != nil || calls[0].Action != "disconnect" || calls[0].URL != "/app/7" || calls[0].Reason != "server_closed" {
			t.Errorf("%+v %v", calls, err)
		}
	}},
	{name: "relay: a drain cuts what has not ended", run: func(t *T) {
		app := newAppStream()
		s := t.startRelay(app.serve)
		x, _ := s.relay(harness.Request{Method: "POST", Target: "/app", Body: []byte("q")}, http.StatusOK)
		x.Begin(len(harness.Heartbeat), patience)
		s.signal(syscall.SIGTERM)
		if rest, end, _ := x.Rest(patience); rest != "" || end != harness.Cut {
			t.Errorf("%q %v", rest, end)
		}
		<-app.gone
	}},
}}
