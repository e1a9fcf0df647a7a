package callback

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/gateway"
)

func TestNewRefusesBadURLs(t *testing.T) {
	for _, raw := range []string{
		"", "localhost:3000", "ftp://h/", "http://", "http:///x", "http://:80/",
		"http://user:hidden@h:port/", "http://h/?hidden key", "http://h/%zz?hidden", "http://user:hid/den@h",
		"http://höst/", "://hidden", "http://h/\x7fhidden",
	} {
		_, err := New(Config{URL: raw})
		if err == nil {
			t.Errorf("%q was taken", raw)
		} else if strings.Contains(err.Error(), "hid") {
			t.Errorf("%q: the error shows it: %v", raw, err)
		}
	}
	if _, err := New(Config{URL: "http://h/", Concurrency: -1}); err == nil {
		t.Error("a negative concurrency was taken")
	}
}

// A connect callback carries where the log was when its turn had come: not when it began to wait, nor when the
// backend has answered.
func TestPosition(t *testing.T) {
	release := make(chan struct{})
	bodies := make(chan string, 2)
	var last atomic.Uint64
	s := httpBackend(t, func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies <- string(b)
		<-release
		last.Add(1)
	})
	position := func(context.Context) broker.Position { return broker.Position{Epoch: "E", Offset: last.Load()} }
	c := newClient(t, Config{URL: s.URL, Concurrency: 1, Position: position})
	last.Store(7)
	answers := make(chan gateway.Answer, 2)
	for range 2 {
		go func() {
			answers <- c.Connect(t.Context(), context.Background(), gateway.NewToken(), request)
		}()
	}
	first := <-bodies
	for _, waiting := c.Connects(); waiting == 0; _, waiting = c.Connects() {
		runtime.Gosched()
	}
	last.Store(20)
	close(release)
	second := <-bodies
	asked := []uint64{(<-answers).Asked.Offset, (<-answers).Asked.Offset} // in either order
	slices.Sort(asked)
	for i, want := range []uint64{7, 21} {
		body := []string{first, second}[i]
		if !strings.Contains(body, fmt.Sprintf(`,"position":"E-%d","request":`, want)) {
			t.Errorf("body %s, want the position %d", body, want)
		}
		if asked[i] != want {
			t.Errorf("the answer says %d, want the position %d", asked[i], want)
		}
	}
}

func TestConnectSendsTheCallback(t *testing.T) {
	type seen struct {
		head *http.Request
		body body
		raw  string
	}
	calls := make(chan seen, 1)
	s := httpBackend(t, func(_ http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		calls <- seen{r, decode(t, strings.NewReader(string(raw))), string(raw)}
	})
	address := strings.TrimPrefix(s.URL, "http://")
	c := newClient(t, Config{URL: "http://user:p%40ss@" + address + "/hook%2Fa//b?key=s%20e&c"})
	token := gateway.NewToken()

	check(t, c.Connect(t.Context(), context.Background(), token, request), gateway.Answer{Outcome: gateway.Accepted, Status: 200})
	got := <-calls
	if want := `{"action":"connect","token":"` + token.String() + `","request":` + string(request) + `}`; got.raw != want {
		t.Errorf("body %s\nwant %s", got.raw, want)
	}
	if got.head.Method != http.MethodPost || got.head.RequestURI != "/hook%2Fa//b?key=s%20e&c" || got.head.Host != address {
		t.Errorf("%s %s of %s", got.head.Method, got.head.RequestURI, got.head.Host)
	}
	if user, password, _ := got.head.BasicAuth(); user != "user" || password != "p@ss" {
		t.Errorf("userinfo %s:%s", user, password)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "User-Agent": "ssegateway", "Webhook-Id": token.String() + "-connect",
	} {
		if got := got.head.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}

	c.Disconnect(gateway.Notice{Token: token, Request: request, Reason: gateway.ClientClosed})
	got = <-calls
	if want := `{"action":"disconnect","reason":"client_closed","token":"` + token.String() + `","request":` + string(request) + `}`; got.raw != want {
		t.Errorf("body %s\nwant %s", got.raw, want)
	}
	if got := got.head.Header.Get("Webhook-Id"); got != token.String()+"-disconnect" {
		t.Errorf("webhook-id %q", got)
	}
	c.Disconnect(gateway.Notice{Token: token, Request: request, Reason: gateway.Error, Detail: gateway.Stalled})
	got = <-calls
	if want := `{"action":"disconnect","reason":"error","detail":"stalled","token":"` + token.String() + `","request":` + string(request) + `}`; got.raw != want {
		t.Errorf("body %s\nwant %s", got.raw, want)
	}
}

func TestHostHeader(t *testing.T) {
	for raw, want := range map[string]string{
		"http://h": "h", "http://h:": "h", "http://H:80/": "H:80", "http://[::1]:81/": "[::1]:81", "http://[fe80::1%25eth0]:81/": "[fe80::1]:81",
		"http://[fe80::1%25eth0]/": "[fe80::1]",
	} {
		c, err := New(Config{URL: raw})
		if err != nil {
			t.Errorf("%s: %v", raw, err)
		} else if !strings.Contains(string(c.head), "\r\nHost: "+want+"\r\n") {
			t.Errorf("%s: %q", raw, c.head)
		}
	}
}

func TestEveryStatus(t *testing.T) {
	var paths atomic.Int32
	s := httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		paths.Add(1)
		status, _ := strconv.Atoi(r.URL.Query().Get("status"))
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
	})
	statuses := []int{200, 201, 202, 204, 205, 226, 299, 300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 408, 418, 425, 429, 499, 500, 502, 503, 504, 599, 600, 999}
	for _, status := range statuses {
		c := newClient(t, Config{URL: fmt.Sprintf("%s/?status=%d", s.URL, status)})
		want := gateway.Answer{Outcome: gateway.Refused, Status: status}
		if status < 300 {
			want.Outcome = gateway.Accepted
		}
		check(t, connect(t, c), want)
	}
	if n := int(paths.Load()); n != len(statuses) {
		t.Errorf("%d callbacks for %d connects", n, len(statuses))
	}
}

// What a client has to know of the answer reaches it, and nothing that could break its head.
func TestAnswerPassesFieldsOn(t *testing.T) {
	fields := func(all ...string) (header []gateway.Field) {
		for i := 0; i < len(all); i += 2 {
			header = append(header, gateway.Field{Name: all[i], Value: all[i+1]})
		}
		return header
	}
	long := strings.Repeat("x", passedLimit)
	for _, test := range []struct {
		lines string
		want  []gateway.Field
	}{
		{"", nil},
		{"X: y\r\nLocation: /x\r\nConnection: close\r\n", nil},
		{"www-authenticate: Bearer realm=a\r\nWWW-Authenticate: Basic\r\nRETRY-AFTER: 5\r\n", fields("WWW-Authenticate", "Bearer realm=a", "WWW-Authenticate", "Basic", "Retry-After", "5")},
		{"Set-Cookie: a=b; Secure\r\nset-cookie: c=d\r\n", fields("Set-Cookie", "a=b; Secure", "Set-Cookie", "c=d")},
		{"Set-Cookie: " + long + "\r\nSet-Cookie: a=b\r\nRetry-After: 5\r\n", fields("Retry-After", "5", "Set-Cookie", "a=b")},
		{"Set-Cookie: a\rX: y\r\nRetry-After: 5\x00\r\nWWW-Authenticate: \x01\r\n", nil},
		{"Set-Cookie: \xe9\r\n", fields("Set-Cookie", "\xe9")},
	} {
		for _, status := range []string{"200 OK", "401 Unauthorized", "503 Away"} {
			c := newClient(t, Config{URL: answers(t, "HTTP/1.1 "+status+"\r\nContent-Length: 0\r\n"+test.lines+"\r\n")})
			if got := connect(t, c); !slices.Equal(got.Header, test.want) {
				t.Errorf("%s with %.80q: %.200q", status, test.lines, got.Header)
			}
		}
	}
}

func TestAnswersOfEveryForm(t *testing.T) {
	accepted := gateway.Answer{Outcome: gateway.Accepted, Status: 200}
	unanswered := gateway.Answer{Outcome: gateway.Unanswered}
	for _, test := range []struct {
		text string
		want gateway.Answer
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", accepted},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", accepted},
		{"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n\xff{", accepted},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", accepted},
		{"HTTP/1.0 200 OK\r\n\r\n{}", accepted},
		{"HTTP/1.1 200 OK\r\n\r\n", accepted},
		{"HTTP/1.1 204 No Content\r\n\r\n", gateway.Answer{Outcome: gateway.Accepted, Status: 204}},
		{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", gateway.Answer{Outcome: gateway.Refused, Status: 403}},
		// What comes after the answer is nobody's.
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 500 No\r\n\r\n", accepted},
		// The head is the answer, also where the body hangs or is nonsense.
		{"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{", accepted},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", accepted},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n0\r\n\r\n", accepted},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + strings.Repeat("x", 2000000), accepted},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1e8480\r\n" + strings.Repeat("x", 2000000) + "\r\n0\r\n\r\n", accepted},
		{"HTTP/1.1 403 No\r\nContent-Length: 20\r\n\r\n{", gateway.Answer{Outcome: gateway.Refused, Status: 403}},

		{"SSH-2.0-OpenSSH_9.9\r\n\r\n", unanswered},
		{"HTTP/1.1 OK\r\n\r\n", unanswered},
		{"HTTP/1.1 20 OK\r\n\r\n", unanswered},
		{"HTTP/1.1 000 OK\r\n\r\n", unanswered},
		{"HTTP/1.1 099 OK\r\n\r\n", unanswered},
		{"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", unanswered},
		{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", unanswered},
		{"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 200<<10) + "\r\n\r\n", unanswered},
		{strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 10000), unanswered},
	} {
		t.Run(fmt.Sprintf("%.60q", test.text), func(t *testing.T) {
			t.Parallel() // the body of a 2xx is waited for
			c := newClient(t, Config{URL: answers(t, test.text), Timeout: 2 * time.Second})
			check(t, connect(t, c), test.want)
		})
	}
}

func TestAnswerThatIsCut(t *testing.T) {
	for _, text := range []string{
		"", "HTTP", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{",
	} {
		var calls atomic.Int32
		address := rawBackend(t, nil, func(c net.Conn, in *bufio.Reader) {
			if readRequest(in) == nil {
				calls.Add(1)
				_, _ = io.WriteString(c, text)
			}
		})
		c := newClient(t, Config{URL: "http://" + address})
		check(t, connect(t, c), gateway.Answer{Outcome: gateway.Unanswered})
		if n := calls.Load(); n != 1 {
			t.Errorf("%q: %d callbacks", text, n)
		}
	}
}

// A backend that reads a callback on a used connection, and goes without an answer, has
// had its callback.
func TestNoRetryWhenTheBackendHasReadTheCallback(t *testing.T) {
	for name, config := range map[string]*tls.Config{"plain": nil, "tls": serverTLS(t)} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			address := rawBackend(t, config, func(c net.Conn, in *bufio.Reader) {
				for n := 0; readRequest(in) == nil; n++ {
					calls.Add(1)
					if n == 1 {
						return
					}
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			})
			c := newTLSClient(t, Config{}, address, config)
			check(t, connect(t, c), gateway.Answer{Outcome: gateway.Accepted, Status: 200})
			check(t, connect(t, c), gateway.Answer{Outcome: gateway.Unanswered})
			if n := calls.Load(); n != 2 {
				t.Errorf("%d callbacks", n)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	var r results
	var l logBuffer
	dial := func(c *Client, err error) {
		c.pool.dial = func(context.Context, string, string) (net.Conn, error) { return nil, err }
	}
	c := newClient(t, Config{URL: "http://127.0.0.1:1/hidden?hidden=1", Observe: r.observe, Log: l.logger()})
	check(t, connect(t, c), gateway.Answer{Outcome: gateway.Unreachable})
	dial(c, errors.New("no such host"))
	check(t, connect(t, c), gateway.Answer{Outcome: gateway.Unreachable})
	dial(c, &net.OpError{Op: "dial", Err: context.DeadlineExceeded})
	check(t, connect(t, c), gateway.Answer{Outcome: gateway.TimedOut, Unsent: true})
	// What closes without a handshake cannot have had a callback.
	c = newClient(t, Config{URL: "https://" + rawBackend(t, nil, func(net.Conn, *bufio.Reader) {}), Observe: r.observe, Log: l.logger()})
	check(t, connect(t, c), gateway.Answer{Outcome: gateway.Unreachable})
	// A certificate that nobody vouches for.
	c = newClient(t, Config{URL: "https://" + rawBackend(t, serverTLS(t), func(_ net.Conn, in *bufio.Reader) { _ = readRequest(in) }), Observe: r.observe, Log: l.logger()})
	check(t, connect(t, c), gateway.Answer{Outcome: gateway.Unreachable})

	if got := r.String(); got != "[connect timeout:1 connect unreachable:4]" {
		t.Error(got)
	}
	// Each of the three clients has one warning, however often it fails.
	if text := l.String(); strings.Contains(text, "hidden") || strings.Count(text, "msg=callback") != 5 || strings.Count(text, "error=") != 8 ||
		strings.Count(text, `level=WARN msg="the backend does not answer connect callbacks`) != 3 {
		t.Error(text)
	}
}

func TestTimeouts(t *testing.T) {
	const timeout = 50 * time.Millisecond
	silent := "http://" + rawBackend(t, nil, func(_ net.Conn, in *bufio.Reader) { _, _ = io.Copy(io.Discard, in) })
	t.Run("no answer", func(t *testing.T) {
		c := newClient(t, Config{URL: silent, Timeout: timeout})
		check(t, connect(t, c), gateway.Answer{Outcome: gateway.TimedOut})
	})
	t.Run("half a head", func(t *testing.T) {
		c := newClient(t, Config{URL: answers(t, "HTTP/1.1 200 OK\r\n"), Timeout: timeout})
		check(t, connect(t, c), gateway.Answer{Outcome: gateway.TimedOut})
	})
	t.Run("no handshake", func(t *testing.T) {
		c := newClient(t, Config{URL: strings.Replace(silent, "http", "https", 1), Timeout: timeout})
		check(t, connect(t, c), gateway.Answer{Outcome: gateway.TimedOut, Unsent: true})
	})
	t.Run("no longer wanted", func(t *testing.T) {
		read := make(chan struct{})
		address := rawBackend(t, nil, func(_ net.Conn, in *bufio.Reader) {
			if readRequest(in) == nil {
				close(read)
				_, _ = io.Copy(io.Discard, in)
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-read; cancel() }()
		c := newClient(t, Config{URL: "http://" + address})
		check(t, c.Connect(ctx, context.Background(), gateway.NewToken(), request), gateway.Answer{Outcome: gateway.TimedOut})
		check(t, c.Connect(ctx, context.Background(), gateway.NewToken(), request), gateway.Answer{Outcome: gateway.TimedOut, Unsent: true})
	})
}

// The body of a 2xx comes with the answer, if it comes in whole and is not too long. If it
// does not, the log says so.
func TestBody(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for text, want := range map[string]string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}":                                                                "{}",
		"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n":                       "{}",
		"HTTP/1.1 204 No Content\r\n\r\n":                                                                               "",
		"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}":                                                               "",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1\r\nx\r\n", len(long)) + "0\r\n\r\n": long,
		fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(long), long):                                 long,
		fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nx%s", len(long)+1, long):                              "",
		fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\nx%s\r\n0\r\n\r\n", len(long)+1, long):   "",
	} {
		t.Run(fmt.Sprintf("%.60q", text), func(t *testing.T) {
			t.Parallel()
			var l logBuffer
			patience := 20 * time.Second // a million chunks take their time on a busy machine
			if want == "" {
				patience = 2 * time.Second
			}
			c := newClient(t, Config{URL: answers(t, text), Timeout: patience, Log: l.logger()})
			if a := connect(t, c); a.Outcome != gateway.Accepted || string(a.Body) != want {
				t.Errorf("%d bytes, outcome %d, want %d bytes", len(a.Body), a.Outcome, len(want))
			}
			ignored := want == "" && !strings.Contains(text, " 204 ")
			if warned := strings.Contains(l.String(), "level=WARN msg=\"the answer to the connect callback is ignored\""); warned != ignored {
				t.Errorf("warned %v, want %v: %s", warned, ignored, l.String())
			}
		})
	}
}

// Nobody waits for the body when the asking has ended.
func TestBodyAfterTheEnd(t *testing.T) {
	for name, begun := range map[string]string{
		"short":   "Content-Length: 20\r\n\r\n{",
		"long":    "Content-Length: 70000\r\n\r\n{",
		"longest": "Content-Length: 1048576\r\n\r\n{",
		"chunked": "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			c := newClient(t, Config{URL: "http://" + rawBackend(t, nil, func(c net.Conn, in *bufio.Reader) {
				if readRequest(in) == nil {
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+begun)
					time.AfterFunc(2*time.Second, cancel) // the head has been read long since
					_, _ = io.Copy(io.Discard, in)
				}
			}), Timeout: time.Minute})
			began := time.Now()
			check(t, c.Connect(ctx, context.Background(), gateway.NewToken(), request), gateway.Answer{Outcome: gateway.Accepted, Status: 200})
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("it was waited for for %s", took)
			}
		})
	}
}

// The slow body of a refusal holds up neither the answer nor, beyond its own turn,
// anybody else, and the end of Run does not wait for it.
func TestSlowBody(t *testing.T) {
	address := answers(t, "HTTP/1.1 403 Forbidden\r\nContent-Length: 20\r\n\r\n{")
	c, err := New(Config{URL: address, Timeout: time.Minute, Concurrency: 2})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, c)
	check(t, connect(t, c), gateway.Answer{Outcome: gateway.Refused, Status: 403})
	check(t, connect(t, c), gateway.Answer{Outcome: gateway.Refused, Status: 403})
	if n := len(c.turns); n != 2 {
		t.Errorf("%d turns are taken, want 2: both callbacks are in flight", n)
	}
	c.Disconnect(gateway.Notice{Request: request, Reason: gateway.ClientClosed})
	if n := c.Flush(t.Context()); n != 0 {
		t.Errorf("%d undelivered", n)
	}
	stop()
	takeTurn(c) // both are given back
	takeTurn(c)
}

func TestConnectsWaitTheirTurn(t *testing.T) {
	const concurrency, connects = 3, 50
	var now, most atomic.Int32
	s := httpBackend(t, func(http.ResponseWriter, *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-time.After(time.Millisecond)
	})
	c := newClient(t, Config{URL: s.URL, Concurrency: concurrency})
	var all sync.WaitGroup
	for range connects {
		all.Go(func() { check(t, connect(t, c), gateway.Answer{Outcome: gateway.Accepted, Status: 200}) })
	}
	all.Wait()
	if n := most.Load(); n != concurrency {
		t.Errorf("%d callbacks in flight at most, want %d", n, concurrency)
	}

	for range concurrency {
		takeTurn(c)
	}
	left, leave := context.WithCancel(t.Context())
	waiting := make(chan gateway.Answer)
	go func() { waiting <- c.Connect(t.Context(), left, gateway.NewToken(), request) }()
	leave()
	check(t, <-waiting, gateway.Answer{Outcome: gateway.Unasked})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	check(t, c.Connect(ctx, context.Background(), gateway.NewToken(), request), gateway.Answer{Outcome: gateway.TimedOut, Unsent: true})
}

// Nobody asks about a client that has left, not even when a turn is free.
func TestConnectOfClientThatLeft(t *testing.T) {
	var calls atomic.Int32
	s := httpBackend(t, func(http.ResponseWriter, *http.Request) { calls.Add(1) })
	c := newClient(t, Config{URL: s.URL, Concurrency: 1})
	left, leave := context.WithCancel(t.Context())
	leave()
	check(t, c.Connect(t.Context(), left, gateway.NewToken(), request), gateway.Answer{Outcome: gateway.Unasked})
	// Both at once, as chance has it: the turn is given back.
	for range 20 {
		takeTurn(c)
		left, leave := context.WithCancel(t.Context())
		waiting := make(chan gateway.Answer)
		go func() { waiting <- c.Connect(t.Context(), left, gateway.NewToken(), request) }()
		leave()
		c.yieldTurn()
		check(t, <-waiting, gateway.Answer{Outcome: gateway.Unasked})
	}
	check(t, connect(t, c), gateway.Answer{Outcome: gateway.Accepted, Status: 200})
	if n := calls.Load(); n != 1 {
		t.Errorf("%d callbacks, want that of the client that is there", n)
	}
}

func takeTurn(c *Client) { c.takeTurn(context.Background(), context.Background()) }

func TestConnectsBeforeAndAfterRun(t *testing.T) {
	s := httpBackend(t, func(http.ResponseWriter, *http.Request) {})
	c, err := New(Config{URL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	check(t, connect(t, c), gateway.Answer{Outcome: gateway.Accepted, Status: 200})
	run(t, c)()
	check(t, connect(t, c), gateway.Answer{Outcome: gateway.Accepted, Status: 200})
	if len(c.pool.idle) != 0 {
		t.Error("a connection is kept after the end")
	}
}

func TestLog(t *testing.T) {
	var l logBuffer
	s := httpBackend(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	c := newClient(t, Config{URL: s.URL + "/hidden?hidden", Log: l.logger()})
	token := gateway.NewToken()
	c.Connect(t.Context(), context.Background(), token, request)
	c.Disconnect(gateway.Notice{Token: token, Request: request, Reason: gateway.ClientClosed})
	c.Flush(t.Context())
	text := regexp.MustCompile(`ms=\d+`).ReplaceAllString(l.String(), "ms=0")
	for _, want := range []string{
		fmt.Sprintf("level=INFO msg=callback action=connect token=%s status=403 result=refused ms=0\n", token),
		fmt.Sprintf("level=WARN msg=callback action=disconnect token=%s status=403 result=rejected ms=0 reason=client_closed attempt=1\n", token),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no line %s in\n%s", want, text)
		}
	}
	if strings.Contains(text, "hidden") {
		t.Error(text)
	}
}

// A redirect is said with where it points to, without what may be secret.
func TestLogOfARedirect(t *testing.T) {
	for location, want := range map[string]string{
		"/login?next=hidden#hidden":                "location=/login ",
		"https://u:hidden@sso.example/in?a=hidden": "location=https://sso.example/in ",
		"":               "status=307\n",
		"http://[hidden": "status=307\n",
		"/" + strings.Repeat("x", 300) + "secret": "location=\"/" + strings.Repeat("x", 199) + "…(307 bytes)\"",
	} {
		var l logBuffer
		c := newClient(t, Config{URL: answers(t, "HTTP/1.1 307 No\r\nLocation: "+location+"\r\nContent-Length: 0\r\n\r\n"), Log: l.logger()})
		check(t, connect(t, c), gateway.Answer{Outcome: gateway.Refused, Status: 307})
		text := l.String() + "\n"
		if strings.Count(text, "level=WARN msg=\"the answer to the connect callback is") != 1 || !strings.Contains(text, want) || strings.Contains(text, "hidden") {
			t.Errorf("%q: %s", location, text)
		}
	}
}

// Clients cause redirects as often as they like, so that a second has one warning.
func TestLogOfRedirects(t *testing.T) {
	var l logBuffer
	c := newClient(t, Config{URL: answers(t, "HTTP/1.1 307 No\r\nLocation: /login\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"), Log: l.logger()})
	const n = 5
	for range n {
		connect(t, c)
	}
	text := l.String()
	if warned, told := strings.Count(text, "level=WARN"), strings.Count(text, "level=INFO msg=callback action=connect"); warned == 0 || warned == n || told != n {
		t.Errorf("%d warnings, %d callbacks:\n%s", warned, told, text)
	}
}

// A backend that wants a certificate of ours is told from one that breaks connections.
func TestBackendAsksForACertificate(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := serverTLS(t)
		config.ClientAuth, config.MinVersion, config.MaxVersion = tls.RequireAnyClientCert, version, version
		addr := rawBackend(t, config, func(c net.Conn, _ *bufio.Reader) { _, _ = c.Read(make([]byte, 1)) })
		var l logBuffer
		c := newTLSClient(t, Config{Log: l.logger()}, addr, config)
		if got := connect(t, c); got.Outcome == gateway.Accepted || !strings.Contains(l.String(), "TLS client certificate") {
			t.Errorf("version %x: %v\n%s", version, got, l.String())
		}
		// One that asks and can do without is answered.
		config = serverTLS(t)
		config.ClientAuth, config.MinVersion, config.MaxVersion = tls.RequestClientCert, version, version
		addr = rawBackend(t, config, func(c net.Conn, in *bufio.Reader) {
			if _, err := http.ReadRequest(in); err == nil {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		})
		check(t, connect(t, newTLSClient(t, Config{}, addr, config)), gateway.Answer{Outcome: gateway.Accepted, Status: 200})
	}
}

// Some servers take a handshake without a certificate and refuse each request on it, on
// resumed sessions too, which do not ask again.
func TestBackendRefusesForTheCertificate(t *testing.T) {
	config := serverTLS(t)
	config.ClientAuth = tls.RequestClientCert
	addr := rawBackend(t, config, func(c net.Conn, in *bufio.Reader) {
		if _, err := http.ReadRequest(in); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		}
	})
	var l logBuffer
	c := newTLSClient(t, Config{Log: l.logger()}, addr, config)
	for n := 1; n <= 3; n++ {
		check(t, connect(t, c), gateway.Answer{Outcome: gateway.Refused, Status: 400})
		if got := strings.Count(l.String(), "TLS client certificate"); got != n {
			t.Errorf("%d of %d refusals tell of the certificate:\n%s", got, n, l.String())
		}
	}
}

func serverTLS(t testing.TB) *tls.Config {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	t.Cleanup(s.Close)
	return &tls.Config{Certificates: s.TLS.Certificates, MinVersion: tls.VersionTLS12}
}

// newTLSClient makes a client for a plain backend, or one with the certificate of serverTLS.
func newTLSClient(t testing.TB, cfg Config, address string, server *tls.Config) *Client {
	cfg.URL = "http://" + address
	if server == nil {
		return newClient(t, cfg)
	}
	cfg.URL = "https://" + address
	c := newClient(t, cfg)
	c.pool.tls.config().InsecureSkipVerify = true
	return c
}
