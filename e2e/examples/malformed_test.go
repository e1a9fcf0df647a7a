package examples

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// wrong is a request that no example can use.
type wrong struct {
	name, method, target, body string
}

// nobody is a stream without a name.
var nobody = wrong{"nobody", "POST", "/callback", `{"action":"connect","token":"t","request":{"url":"/events/","headers":{}}}`}

// tooLarge is more than any of them reads.
var tooLarge = strings.Repeat("x", 3<<20)

// wrongRequests returns what everybody can send to a backend. Its callbacks are at /callback, and at each of
// these targets it takes a body.
func wrongRequests(targets ...string) []wrong {
	list := []wrong{
		{"a path that there is not", "GET", "/nothing", ""},
		{"a target that is no URL", "GET", "//", ""},
		{"another method", "GET", "/callback", ""},
		{"yet another method", "DELETE", "/callback", ""},
		{"PUT", "PUT", "/callback", "{}"},
		{"too large a callback", "POST", "/callback", tooLarge},
	}
	for _, body := range []string{
		"", "{", "hello", "null", "7", `"connect"`, "[]", `[{"action":"connect"}]`, "{}", "[}", `{"action":"connect",}`,
		`{"action":7}`, `{"action":null,"token":"t"}`, `{"action":["connect"],"token":"t"}`, `{"action":"open","token":"t"}`,
		`{"action":"connect"}`,
		`{"action":"connect","token":"t"}`,
		`{"action":"connect","token":7,"request":{"url":"/events/?name=ada&room=tea","headers":{}}}`,
		`{"action":"connect","request":{"url":"/events/?name=ada&room=tea","headers":{}}}`,
		`{"action":"connect","token":"t","request":7}`,
		`{"action":"connect","token":"t","request":{"headers":{}}}`,
		`{"action":"connect","token":"t","request":{"url":["/"],"headers":{}}}`,
		`{"action":"disconnect"}`,
		`{"action":"disconnect","token":{}}`,
		`{"action":"disconnects"}`,
		`{"action":"disconnects","events":7}`,
		`{"action":"disconnects","events":[7]}`,
		`{"action":"disconnects","events":[{"token":7}]}`,
		strings.Repeat("[", 200_000),
		`{"action":` + strings.Repeat(`{"a":`, 100_000),
	} {
		list = append(list, wrong{fmt.Sprintf("callback %.60s", body), "POST", "/callback", body})
	}
	if len(targets) > 0 {
		list = append(list, nobody)
	}
	for _, target := range targets {
		list = append(list, wrong{"too large a body of " + target, "POST", target, tooLarge})
	}
	return list
}

// Each backend answers what it cannot use with a 4xx, and lives on.
func TestMalformed(t *testing.T) {
	t.Run("languages", func(t *testing.T) {
		for _, e := range languages {
			t.Run(e.name, func(t *testing.T) {
				t.Parallel()
				s := e.start(t)
				ada := s.open(t, "/events/?name=ada", 200)
				ada.want(t, "welcome", "Hello, ada")
				s.wantRefusals(t, wrongRequests("/send?name=ada", "/publish", "/stream?name=ada"))
				s.wantStreams(t, `["ada"]`)
				s.do(t, "POST", "/send?name=ada", "still there", 200, nil)
				ada.want(t, "note", "still there")
			})
		}
	})
	for name, more := range map[string][]wrong{
		"chat": {
			nobody,
			{"no JSON", "POST", "/say", "{"},
			{"nothing", "POST", "/say", "null"},
			{"no room", "POST", "/say", `{"name":"ada","say":"hello"}`},
			{"a name of another type", "POST", "/say", `{"room":"tea","name":7,"say":"hello"}`},
			{"too much to say", "POST", "/say", tooLarge},
			{"a room that is too long", "POST", "/say", `{"room":"` + strings.Repeat("x", 300) + `","name":"ada","say":"hello"}`},
		},
		"progress": {{"too large a job", "POST", "/jobs", tooLarge}},
		"browser": {
			{"no number", "POST", "/change?by=x", ""},
			{"no change", "POST", "/change", ""},
			{"too large a change", "POST", "/change?by=1", tooLarge},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := page(name).start(t)
			s.wantRefusals(t, append(wrongRequests(), more...))
		})
	}
	t.Run("llm", func(t *testing.T) {
		t.Parallel()
		s := page("llm").start(t)
		s.wantRefusals(t, []wrong{
			{"a path that there is not", "GET", "/nothing", ""},
			{"a target that is no URL", "GET", "//", ""},
			{"another method", "PUT", "/events/llm/answer", ""},
			{"too large a question", "POST", "/events/llm/answer", tooLarge},
		})
	})
}

// wantRefusals sends each request to the example, and wants a 4xx. Between them clients leave in the middle.
func (s *site) wantRefusals(t *testing.T, requests []wrong) {
	t.Helper()
	for _, r := range requests {
		req, err := http.NewRequestWithContext(t.Context(), r.method, s.app, strings.NewReader(r.body))
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Opaque = r.target // as it is
		if strings.HasPrefix(r.target, "//") {
			req.URL.Opaque, req.URL.Path = "", r.target
		}
		resp, err := s.client.Do(req)
		if err != nil {
			t.Errorf("%s: %v, want a 4xx", r.name, err)
			continue
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		redirected := r.target == "//" && resp.StatusCode < 400 // it may be told the right one
		if resp.StatusCode < 300 || resp.StatusCode < 400 && !redirected || resp.StatusCode > 499 || err != nil {
			t.Errorf("%s: %d %s %v, want a 4xx", r.name, resp.StatusCode, text, err)
		}
	}
	for _, head := range []string{"", "POST /callback", "POST /callback HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"} {
		s.raw(t, head).Close()
	}
	for _, length := range []string{"-1", "many"} {
		c := s.raw(t, "POST /callback HTTP/1.1\r\nHost: x\r\nContent-Length: "+length+"\r\n\r\n")
		if s.runs.name != "php" { // whose server waits before it asks the program
			c.wantRefusal(t)
		}
	}
	select {
	case <-s.example.Exited():
		t.Fatal("the example has ended")
	default:
	}
}

// rawConn is a connection to the example.
type rawConn struct{ net.Conn }

func (s *site) raw(t *testing.T, text string) rawConn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.app, "http://"))
	if err == nil {
		_, err = io.WriteString(conn, text)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return rawConn{conn}
}

// wantRefusal waits for a 4xx, or for the end of a connection that nobody can make sense of.
func (c rawConn) wantRefusal(t *testing.T) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(harness.Patience)); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	var waited net.Error
	if errors.As(err, &waited) && waited.Timeout() {
		t.Error("no answer to a length that is none")
	}
	if line != "" && !regexp.MustCompile(`^HTTP/1\.[01] 4\d\d`).MatchString(line) {
		t.Errorf("answer to a length that is none: %q", line)
	}
}

// A gateway that is killed costs a backend no more than what it was to send: it says so in its log, and lives on. When
// the gateway is back, so is everything.
func TestGatewayAway(t *testing.T) {
	for _, e := range languages {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			s := e.start(t)
			s.open(t, "/events/?name=ada", 200).want(t, "welcome", "Hello, ada")
			s.gateway.Kill()
			for _, target := range []string{"/send?name=ada", "/stream?name=ada", "/publish"} {
				s.do(t, "POST", target, "nobody hears", http.StatusBadGateway, nil)
			}
			s.wantStreams(t, `["ada"]`) // nobody has told it otherwise
			if _, ok := s.example.Log.Find(harness.Patience, regexp.MustCompile("the gateway cannot be reached")); !ok {
				t.Errorf("the example says nothing of it:\n%s", s.example.Log.Text())
			}
			s.startGateway(t, append(s.settings, fmt.Sprintf("PORT=%d", s.port)))
			bob := s.open(t, "/events/?name=bob", 200)
			bob.want(t, "welcome", "Hello, bob")
			s.do(t, "POST", "/send?name=bob", "here again", 200, nil)
			bob.want(t, "note", "here again")
			s.do(t, "POST", "/send?name=ada", "gone", http.StatusNotFound, nil)
			s.wantStreams(t, `["bob"]`) // the 404 of the gateway did
		})
	}
}

// The same of a page's server: what somebody says meanwhile is refused, so that the page can say it again.
func TestGatewayAwayFromPage(t *testing.T) {
	t.Parallel()
	s := page("chat").start(t)
	const hello = `{"room":"tea","name":"ada","say":"hello"}`
	s.gateway.Kill()
	s.do(t, "POST", "/say", hello, http.StatusBadGateway, nil)
	if _, ok := s.example.Log.Find(harness.Patience, regexp.MustCompile("the gateway cannot be reached")); !ok {
		t.Errorf("the example says nothing of it:\n%s", s.example.Log.Text())
	}
	s.startGateway(t, append(s.settings, fmt.Sprintf("PORT=%d", s.port)))
	s.do(t, "POST", "/say", hello, http.StatusOK, nil)
}
