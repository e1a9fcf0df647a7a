package relay

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"

	"ssegateway/e2e/harness"
)

// Answers before the final one are passed on, to clients that know such answers, without what is between two hops.
func TestInterim(t *testing.T) {
	const hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nSse-Gateway-Token: x\r\nsse_gateway_y: z\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: x\r\n\r\n"
	each(t, func(t *testing.T, k harness.Kind) {
		a := startApp(t, func(c *call) bool {
			c.say(hints + "HTTP/1.1 100 Continue\r\n\r\n" + hints)
			if strings.HasSuffix(c.RequestURI, "stream") {
				c.say(stream + "data: x\n\n")
				return false
			}
			c.say("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>")
			return true
		})
		s := start(t, k, a)
		client := s.endpoint.Client()
		defer client.CloseIdleConnections()
		for _, path := range []string{"/app", "/app/stream"} {
			early := 0
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
				early++
				if code != http.StatusEarlyHints || header.Get("Link") != "</a.css>" || len(header) != 1 {
					t.Errorf("%s: %d %v", path, code, header)
				}
				return nil
			}})
			r, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.url(path), strings.NewReader("question"))
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			want := map[string]string{"/app": "<html>", "/app/stream": "data: x\n\n"}[path]
			if _, typed := resp.Header["Content-Type"]; early != 2 || err != nil || !strings.HasSuffix(string(body), want) || resp.Header.Get("Link") != "" || typed != (path != "/app") {
				t.Errorf("%s: %d early answers, %v, %q %v", path, early, resp.Header, body, err)
			}
		}
	})
}

// A client of HTTP/1.0 gets no answer before the final one, no chunks, and the end of the connection as the end.
func TestHTTP10(t *testing.T) {
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"
	each(t, func(t *testing.T, k harness.Kind) {
		a := startApp(t, func(c *call) bool {
			c.say("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
			if strings.HasSuffix(c.RequestURI, "stream") {
				c.say(stream + "data: x\n\n")
				return false
			}
			c.say(chunked)
			return true
		})
		s := start(t, k, a)
		for _, host := range []string{"", "Host: app.example\r\n"} {
			for path, want := range map[string]string{"/app": "abc", "/app/stream": "data: x\n\n"} {
				nc := s.dial()
				fmt.Fprintf(nc, "POST %s HTTP/1.0\r\n%sContent-Length: 1\r\n\r\nx", path, host)
				text, err := io.ReadAll(nc)
				head, body, _ := strings.Cut(string(text), "\r\n\r\n")
				if err != nil || !strings.HasPrefix(head, "HTTP/1.0 200 OK\r\n") || strings.TrimPrefix(body, harness.Heartbeat) != want || strings.Contains(head, "Transfer-Encoding") || strings.Count(head, "Date: ") != 1 {
					t.Errorf("%s: %q %v", path, text, err)
				}
				if got := a.next(t); got.Proto != "HTTP/1.1" || got.Host != strings.TrimPrefix(strings.TrimSpace(host), "Host: ") || got.body != "x" {
					t.Errorf("%q", got.head)
				}
			}
		}
	}, http1...)
}

// Where HTTP/2 is not spoken, its preface and its version are refused, and never relayed.
func TestPreface(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		a := startApp(t, func(c *call) bool { c.say(plain("")); return true })
		s := start(t, k, a, "RELAY_PATHS=/")
		for _, text := range []string{
			"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI /app HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HTTP/2.0\r\nHost: x\r\n\r\n",
			"GET /app HTTP/2.0\r\nHost: x\r\n\r\n", "GET /app HTTP/3.0\r\nHost: x\r\n\r\n", "PRI * HTTP/1.1\r\nHost: x\r\n\r\n",
		} {
			nc := s.dial()
			_, _ = io.WriteString(nc, text)
			got, _ := io.ReadAll(nc)
			if status := strings.Fields(string(got) + " - -")[1]; status != "505" && status != "405" && status != "400" {
				t.Errorf("%q: %q", text, got)
			}
		}
		if n := a.asked(); n > 0 {
			t.Errorf("the application was asked %d times", n)
		}
	}, http1...)
}

// What a client expects before it sends its body the gateway tells it; the application gets the body as any other.
func TestExpect(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		a := startApp(t, func(c *call) bool { c.say(plain("got it")); return true })
		s := start(t, k, a)
		for _, size := range []int{1, 100_000} {
			nc := s.dial()
			in := bufio.NewReader(nc)
			fmt.Fprintf(nc, "POST /app HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", size)
			early := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
			if _, err := io.ReadFull(in, early); err != nil || string(early) != "HTTP/1.1 100 Continue\r\n\r\n" {
				t.Fatalf("%q %v", early, err)
			}
			_, _ = io.WriteString(nc, strings.Repeat("x", size))
			resp, err := http.ReadResponse(in, nil)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("%+v %v", resp, err)
			}
			_ = resp.Body.Close()
			if got := a.next(t); got.Header.Get("Expect") != "" || len(got.body) != size {
				t.Errorf("%q and %d bytes", got.head, len(got.body))
			}
		}
		s.status(harness.Request{Method: "POST", Target: "/app", Body: []byte("x"), Header: []harness.Field{{Name: "Expect", Value: "something"}}}, http.StatusExpectationFailed)
		if n := a.asked(); n != 2 {
			t.Errorf("asked %d times", n)
		}
	}, http1...)
}

// Trailers of an answer are passed on, announced or not, but for the gateway's own fields. Those of a request are dropped
// (RFC 9110 section 6.5.1).
func TestTrailers(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		a := startApp(t, func(c *call) bool {
			c.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\nTrailer: X-Sum, Sse-Gateway-A\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n" +
				"Sse-Gateway-A: x\r\nSSE_gateway-b: y\r\n" + map[bool]string{true: "X-Late: 2\r\n"}[strings.HasSuffix(c.RequestURI, "late")] + "\r\n")
			return true
		})
		s := start(t, k, a)
		client := s.endpoint.Client()
		defer client.CloseIdleConnections()
		for _, path := range []string{"/app", "/app/late"} {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url(path), io.NopCloser(strings.NewReader("question")))
			r.Trailer = http.Header{"Sse-Gateway-Token": {"forged"}, "Sse_gateway_position": {"forged"}, "X-Mine": {"m"}}
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			late := map[string]string{"/app": "", "/app/late": "2"}[path]
			if err != nil || string(body) != "abc" || resp.Trailer.Get("X-Sum") != "1" || resp.Trailer.Get("X-Late") != late || strings.Contains(strings.ToLower(fmt.Sprint(resp.Trailer, resp.Header)), "sse") {
				t.Errorf("%s: %q %v %v %v", path, body, err, resp.Header, resp.Trailer)
			}
			got := a.next(t)
			if own := got.own(); got.body != "question" || len(own) != 2 || len(got.Trailer) > 0 || strings.Contains(got.head, "forged") || strings.Contains(got.head, "Trailer") {
				t.Errorf("%q %v", got.head, got.Trailer)
			}
		}
	})
}

// Answers without a body have none, whatever their Content-Length says, and the connections go on behind them.
func TestBodiless(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		a := startApp(t, func(c *call) bool {
			switch c.RequestURI {
			case "/app/204":
				c.say("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\nX-App: 1\r\n\r\n")
			case "/app/304":
				c.say("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nEtag: \"a\"\r\n\r\n")
			case "/app/stream":
				c.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
			case "/app/held":
				c.say("HTTP/1.1 200 OK\r\nContent-Type: application/vnd.ssegateway+json\r\nContent-Length: 2\r\nSse-Gateway-Token: " + c.token + "\r\n\r\n")
			default:
				c.say("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n" + map[bool]string{true: "", false: "hello"}[c.Method == http.MethodHead])
			}
			return true
		})
		s := start(t, k, a)
		client := s.endpoint.Client()
		defer client.CloseIdleConnections()
		for range 2 {
			for _, test := range []struct {
				method, path string
				status       int
				length       int64
				kind         string
			}{
				{"HEAD", "/app", 200, 5, "text/plain"},
				{"GET", "/app", 200, 5, "text/plain"},
				{"GET", "/app/204", 204, -1, ""},
				{"GET", "/app/304", 304, -1, ""},
				{"HEAD", "/app/stream", 200, -1, "text/event-stream"},
				{"HEAD", "/app/held", 200, 2, "application/vnd.ssegateway+json"},
				{"GET", "/app", 200, 5, "text/plain"},
			} {
				r, _ := http.NewRequestWithContext(t.Context(), test.method, s.url(test.path), nil)
				resp, err := client.Do(r)
				if err != nil {
					t.Fatalf("%s %s: %v", test.method, test.path, err)
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				want := map[bool]string{true: "hello"}[test.method == "GET" && test.length == 5]
				if err != nil || resp.StatusCode != test.status || test.status != http.StatusOK && resp.Header.Get("Content-Length") != "" || test.length >= 0 && resp.ContentLength != test.length || string(body) != want || resp.Header.Get("Content-Type") != test.kind {
					t.Errorf("%s %s: %d %v, length %d, %q %v", test.method, test.path, resp.StatusCode, resp.Header, resp.ContentLength, body, err)
				}
			}
		}
	})
}

// What follows a request on its connection is a request of its own, answered in turn; behind one that is answered with a
// stream it ends that.
func TestPipelined(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		a := startApp(t, func(c *call) bool {
			if strings.HasSuffix(c.RequestURI, "stream") {
				c.say(stream)
				c.gone(t)
				return false
			}
			c.say(plain(c.RequestURI + c.body))
			return true
		})
		s := start(t, k, a)
		nc := s.dial()
		_, _ = io.WriteString(nc, "POST /app/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none"+
			"POST /app/2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n"+
			"POST /app/3 HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n"+strings.Repeat("3", 20000)+
			"HEAD /app/4 HTTP/1.1\r\nHost: x\r\n\r\nGET /app/5 HTTP/1.1\r\nHost: x\r\n\r\n")
		in := bufio.NewReader(nc)
		for i, want := range []string{"/app/1one", "/app/2two", "/app/3" + strings.Repeat("3", 20000), "", "/app/5"} {
			method := "GET"
			if i == 3 {
				method = "HEAD"
			}
			resp, err := http.ReadResponse(in, &http.Request{Method: method})
			if err != nil {
				t.Fatal(i, err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if string(body) != want || err != nil {
				t.Errorf("answer %d: %.100q %v", i, body, err)
			}
		}
		for range 5 {
			a.next(t)
		}
		x := s.do(harness.Request{Method: "POST", Target: "/app/stream", Body: []byte("q"), Extra: "GET /app/6 HTTP/1.1\r\nHost: x\r\n\r\n"})
		if _, end, _ := x.Rest(harness.Patience); end != harness.Cut {
			t.Errorf("the stream ends with %v", end)
		}
		if a.next(t); a.asked() != 6 {
			t.Errorf("asked %d times", a.asked())
		}
	}, http1...)
}

// A request whose length can be read in two ways is refused, and no other one on its connection.
func TestTwoLengths(t *testing.T) {
	const part = "--b\r\nContent-Disposition: form-data; name=a\r\nContent-Length: 1\r\n\r\n1\r\n--b--\r\n"
	each(t, func(t *testing.T, k harness.Kind) {
		a := startApp(t, func(c *call) bool { c.say(plain(c.body)); return true })
		s := start(t, k, a)
		nc := s.dial()
		in := bufio.NewReader(nc)
		for i, test := range []struct {
			fields, body string
			status       int
			answer       string
		}{
			{fmt.Sprintf("Content-Length: %d", len(part)), part, 200, part},
			{"Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(part), part), 200, part},
			{"Content-Length: 1", "x", 200, "x"},
			{"Transfer-Encoding: chunked\r\nContent-Length: 6", "1\r\nx\r\n0\r\n\r\n", 400, ""},
		} {
			fmt.Fprintf(nc, "POST /app HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n%s", test.fields, test.body)
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(i, err)
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != test.status || test.status == 200 && string(body) != test.answer {
				t.Errorf("request %d: %d %q", i, resp.StatusCode, body)
			}
		}
		if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
			t.Errorf("then %q %v", rest, err)
		}
		x, _ := s.status(harness.Request{Method: "POST", Raw: "POST /app HTTP/1.0\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx"}, http.StatusBadRequest)
		if got, _, _ := x.Rest(harness.Patience); !strings.Contains(got, "INVALID_REQUEST") {
			t.Errorf("%q", got)
		}
		if a.asked() != 3 {
			t.Errorf("asked %d times", a.asked())
		}
	}, http1...)
}

// An answer that is passed through goes on as it comes: its head before its body, and each piece at once.
func TestAsItComes(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		piece := make(chan string)
		a := startApp(t, func(c *call) bool {
			for text := range piece {
				if text == "" {
					break
				}
				c.say(text)
			}
			return true
		})
		s := start(t, k, a)
		for _, sent := range [][]string{{"Content-Length: 6\r\n\r\n", "abc", "def", ""}, {"Transfer-Encoding: chunked\r\n\r\n", "3\r\nabc\r\n", "3\r\ndef\r\n", "0\r\n\r\n"}} {
			x := s.do(harness.Request{Method: "POST", Target: "/app", Body: []byte("q")})
			piece <- "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" + sent[0]
			if head, err := x.Head(harness.Patience); err != nil || head.Status != http.StatusOK {
				t.Fatalf("%q: %+v %v", sent, head, err)
			}
			piece <- sent[1]
			next(t, x, "abc")
			piece <- sent[2]
			next(t, x, "def")
			if sent[3] != "" {
				piece <- sent[3]
			}
			piece <- ""
			end(t, x, "", harness.Clean)
		}
		close(piece)
	})
}
