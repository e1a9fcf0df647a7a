//go:build linux && !portable

package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ssegateway/internal/config"
	"ssegateway/internal/logging/loggingtest"
)

// patience is how long anything of a test may take.
const patience = 20 * time.Second

// running is a server with a backend that accepts everybody.
type running struct {
	*Server
	t      testing.TB
	addr   string
	tokens chan string // of the streams that open
	ends   chan string // reason and detail of each that the backend is told of
	log    *loggingtest.Buffer
	stop   context.CancelFunc
	over   chan error // what Run returned
}

// start starts a server, and ends it with the test, in order.
func start(t testing.TB, change func(*config.Config)) *running {
	t.Helper()
	r := prepare(t, change)
	r.run()
	t.Cleanup(func() {
		r.stop()
		if err := <-r.over; err != nil {
			t.Error(err)
		}
	})
	return r
}

// prepare makes a server that is not running yet.
func prepare(t testing.TB, change func(*config.Config)) *running {
	t.Helper()
	r := &running{t: t, tokens: make(chan string, 10), ends: make(chan string, 10), log: new(loggingtest.Buffer), over: make(chan error, 1)}
	backend := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		var call struct{ Action, Token, Reason, Detail string }
		if err := json.NewDecoder(req.Body).Decode(&call); err != nil {
			t.Error(err)
		}
		if call.Action == "connect" {
			r.tokens <- call.Token
		} else {
			r.ends <- call.Reason + " " + call.Detail
		}
	}))
	t.Cleanup(backend.Close)
	cfg, _, err := config.Load(nil, []string{"CALLBACK_URL=" + backend.URL, "HEARTBEAT_INTERVAL_SECONDS=3600"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Port = free.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is one
	r.addr = free.Addr().String()
	_ = free.Close()
	if change != nil {
		change(&cfg)
	}
	if r.Server, err = New(cfg, "test", slog.New(slog.NewTextHandler(r.log, nil))); err != nil {
		t.Fatal(err)
	}
	return r
}

// run lets it run until stop.
func (r *running) run() {
	r.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	r.t.Cleanup(stop)
	go func() { r.over <- r.Run(ctx) }()
	r.eventually("started", r.started.Load)
}

// eventually looks again and again until something is so.
func (r *running) eventually(what string, is func() bool) {
	r.t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(patience); !is(); <-ticker.C {
		if time.Now().After(end) {
			r.t.Fatalf("never: %s", what)
		}
	}
}

// client is a raw connection.
type client struct {
	t testing.TB
	net.Conn
	in *bufio.Reader
}

func (r *running) dial() *client {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	r.t.Cleanup(func() { _ = conn.Close() })
	return &client{r.t, conn, bufio.NewReader(conn)}
}

func (c *client) write(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, s); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads one, and its body.
func (c *client) answer() (status int, body string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode, string(text)
}

// stream opens an event stream.
func (r *running) stream() (events *client, token string) {
	r.t.Helper()
	events = r.dial()
	events.write("GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(events.in, nil) //nolint:bodyclose // it lasts as long as its connection
	if err != nil || resp.StatusCode != http.StatusOK {
		r.t.Fatal(resp, err)
	}
	events.in = bufio.NewReader(resp.Body)
	return events, <-r.tokens
}

// event reads the data of the next.
func (c *client) event() string {
	c.t.Helper()
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			c.t.Fatal(err)
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			return strings.TrimSuffix(data, "\n")
		}
	}
}

func request(body string, fields ...string) string {
	fields = append(fields, "Host: x", "Content-Type: application/json", "Content-Length: "+strconv.Itoa(len(body)))
	return "POST /internal/send HTTP/1.1\r\n" + strings.Join(fields, "\r\n") + "\r\n\r\n" + body
}

func event(token, data string) string {
	text, _ := json.Marshal(data) // a string never fails
	return `{"token":"` + token + `","event":{"data":` + string(text) + `}}`
}

// kept returns a connection that net/http has handed over.
func (r *running) kept(fields ...string) *client {
	r.t.Helper()
	c := r.dial()
	before := r.senders.Conns()
	for range 2 {
		c.write(request(`{"token":"x"}`, fields...))
		if status, body := c.answer(); status != http.StatusNotFound {
			r.t.Fatal(status, body)
		}
	}
	r.eventually("the connection is kept", func() bool { return r.senders.Conns() == before+1 })
	return c
}

var date = regexp.MustCompile(`Date: [^\r]*\r\n`)

// A connection that was taken over gives the same answers, to the byte, as one that was
// not, whatever it is sent, and in whatever pieces.
func TestKeptSenderIsAnsweredAlike(t *testing.T) {
	r := start(t, func(c *config.Config) { c.MaxBodyBytes = 100_000 })
	send := request(`{"token":"x","event":{"data":"y"}}`)
	all := func(c *client) string {
		_ = c.Conn.(*net.TCPConn).CloseWrite() //nolint:forcetypeassert // it is one
		text, _ := io.ReadAll(c.in)            // a reset may be the end
		return date.ReplaceAllString(string(text), "")
	}
	for _, bytes := range []string{
		"",
		send,
		send + send + send,
		request(""),
		request("{}"),
		request("[]"),
		request(`{"token":"x","token":"y"}`),
		request(`{"token":7}`),
		request(`{"token":"x","event":[]}`),
		request(`{"token":"x","event":{"data":"y","name":"a\nb"}}`),
		request("{\"token\":\"\xff\"}"),
		request(`{"token":"x"}`, "Accept: */*", "User-Agent: x", "Accept-Encoding: gzip", "X-Request-Id: 1"),
		request(`{"token":"x"}`, "Traceparent: nonsense", "Tracestate: x=1"),
		request(`{"token":"x"}`, "Traceparent: a", "Traceparent: b"),
		request(`{"token":"x"}`, "Connection: keep-alive"),
		request(`{"token":"x"}`, "Connection: close"),
		request(`{"token":"x"}`, "X-Forwarded-For: 1.2.3.4"),
		request(`{"token":"x"}`, "Origin: http://x"),
		request(`{"token":"x"}`, "Host: y"),
		request(`{"token":"x"}`, "Content-Length: 5"),
		request(`{"token":"x"}`, "Expect: 100-continue"),
		request(`{"token":"x"}`, "Expect: nonsense"),
		request(`{"token":"x"}`, "Transfer-Encoding: nonsense"),
		request(`{"token":"x"}`, "Bad Name: y"),
		request(`{"token":"x"}`, "Bad: \x01"),
		request(`{"token":"x"}`, " folded: y"),
		request(`{"token":"x"}`, "X-Long: "+strings.Repeat("x", 20_000)),
		request(`{"token":"x"}`, "X-Long: "+strings.Repeat("x", 40_000)),
		request(event("x", strings.Repeat("x", 60_000))),
		request(event("x", strings.Repeat("x", 90_000))),
		request(event("x", strings.Repeat("x", 100_000))),
		"POST /internal/send HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nd\r\n{\"token\":\"x\"}\r\n0\r\n\r\n",
		"POST /internal/send HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
		"POST /internal/send HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
		"POST /internal/send HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
		"POST /internal/send HTTP/1.1\nHost: x\nContent-Type: application/json\nContent-Length: 2\n\n{}",
		"POST /internal/send?x HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
		"PUT /internal/send HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
		"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + send,
		send + "GET /internal/connections HTTP/1.1\r\nHost: x\r\n\r\n" + send,
		send + "nonsense\r\n\r\n" + send,
		send[:10],
		send[:len(send)-1],
		send + send[:60],
		send + "\r\n" + send, // old clients
	} {
		fresh := r.dial()
		fresh.write(bytes)
		want := all(fresh)

		for _, pieces := range []int{1, 2, 7} {
			c := r.kept()
			for piece := range slices.Chunk([]byte(bytes), max(1, len(bytes)/pieces)) {
				if _, err := c.Write(piece); err != nil {
					break // it was refused early
				}
			}
			if got := all(c); got != want {
				t.Errorf("%.200q in %d pieces\n is answered %q\n instead of  %q", bytes, pieces, got, want)
			}
		}
	}
	r.eventually("all connections have left", func() bool { return r.senders.Conns() == 0 })
}

// What is sent arrives, in order, and is answered, in order, however many requests
// come at once.
func TestKeptSenderSends(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Run("", func(t *testing.T) {
		r := start(t, nil)
		events, token := r.stream()
		sender := r.kept()
		n := 0
		for _, together := range []int{1, 1, 10, 1, 100} {
			var requests strings.Builder
			for range together {
				n++
				requests.WriteString(request(event(token, strconv.Itoa(n)+strings.Repeat("x", n*n))))
			}
			sender.write(requests.String())
			for i := range together {
				if status, body := sender.answer(); status != http.StatusOK || body != `{"status":"ok"}` {
					t.Fatal(status, body)
				}
				if got, want := events.event(), n-together+1+i; !strings.HasPrefix(got, strconv.Itoa(want)+"x") || len(got) != want*want+len(strconv.Itoa(want)) {
					t.Fatalf("%.20q… of %d bytes, want the %d.", got, len(got), want)
				}
			}
		}
		// A send that waits is carried out elsewhere, and the connection stays.
		for range 3 {
			sender.write(request(`{"token":"` + token + `","event":{"data":"waits"},"wait":"written"}`))
			if status, body := sender.answer(); status != http.StatusOK || body != `{"status":"written"}` || events.event() != "waits" {
				t.Fatal(status, body)
			}
		}
		r.eventually("the connection is still kept", func() bool { return r.senders.Conns() == 1 })
		// It ends the stream, too.
		sender.write(request(`{"token":"`+token+`","close":true}`) + request(`{"token":"`+token+`"}`))
		if status, body := sender.answer(); status != http.StatusOK {
			t.Fatal(status, body)
		}
		if status, body := sender.answer(); status != http.StatusNotFound {
			t.Fatal(status, body)
		}
		if rest, err := io.ReadAll(events.in); err != nil || len(bytes.TrimSpace(rest)) > 0 {
			t.Errorf("%q, %v", rest, err)
		}
	})
}

// Large sends in the first segments of a connection arrive whole, though it changes hands in the middle of them.
func TestKeptSenderBeginsAtOnce(t *testing.T) {
	r := start(t, nil)
	events, token := r.stream()
	const n = 8
	var requests strings.Builder
	for i := range n {
		requests.WriteString(request(event(token, strconv.Itoa(i)+strings.Repeat("x", 1500*i))))
	}
	sender := r.dial()
	sender.write(requests.String())
	for i := range n {
		if status, body := sender.answer(); status != http.StatusOK {
			t.Fatal(status, body)
		}
		if got := events.event(); len(got) != 1+1500*i || got[0] != byte('0'+i) {
			t.Fatalf("%.20q… of %d bytes, want the %d.", got, len(got), i)
		}
	}
}

// Who sends and sends without reading the answers gets them when it does.
func TestKeptSenderThatDoesNotRead(t *testing.T) {
	r := start(t, nil)
	sender := r.kept()
	_ = sender.Conn.(*net.TCPConn).SetReadBuffer(64 << 10) //nolint:forcetypeassert // it is one
	const n = 40_000
	written := make(chan error, 1)
	go func() {
		_, err := io.WriteString(sender.Conn, strings.Repeat(request(`{"token":"x"}`), n))
		written <- err
	}()
	r.eventually("its answers wait for it, beside the loop", func() bool {
		stacks := make([]byte, 1<<20)
		return bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("fastsend.(*loop).giveBack.func"))
	})
	if r.senders.Conns() != 1 {
		t.Error("it does not count meanwhile")
	}
	for range n {
		if status, body := sender.answer(); status != http.StatusNotFound {
			t.Fatal(status, body)
		}
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}

// Each request says its token anew.
func TestKeptSenderIsAskedForItsToken(t *testing.T) {
	r := start(t, func(c *config.Config) { c.InternalToken = "secret" })
	for _, authorization := range []string{"Bearer secrets", "Bearer", "Basic secret", ""} {
		c := r.kept("Authorization: Bearer secret")
		c.write(request(`{"token":"x"}`, "Authorization: bearer secret"))
		if status, body := c.answer(); status != http.StatusNotFound {
			t.Fatal(status, body)
		}
		c.write(request(`{"token":"x"}`, "Authorization: "+authorization))
		if status, body := c.answer(); status != http.StatusUnauthorized {
			t.Fatal(authorization, status, body)
		}
		if rest, err := io.ReadAll(c.in); err != nil || len(rest) > 0 { // it is a stranger's now
			t.Fatalf("%q, %v", rest, err)
		}
	}
}

// Whether a caller on this host may call depends on the host that it names. A page whose
// name resolves to this host may get hold of a connection on which a send was allowed.
func TestKeptSenderNamesTheSameHost(t *testing.T) {
	r := start(t, nil)
	for _, host := range []string{"evil.example", "x.evil.example", "xx", "localhost"} {
		c := r.kept()
		c.write(strings.Replace(request(`{"token":"x"}`), "Host: x", "Host: "+host, 1))
		want := http.StatusForbidden
		if !strings.Contains(host, ".") {
			want = http.StatusNotFound
		}
		if status, body := c.answer(); status != want {
			t.Error(host, status, body)
		}
		r.eventually("net/http has it", func() bool { return r.senders.Conns() == 0 })
	}
}

// A connection of a sender may become a client's.
func TestKeptSenderOpensAStream(t *testing.T) {
	r := start(t, nil)
	c, sender := r.kept(), r.kept()
	c.write("GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(c.in, nil) //nolint:bodyclose // it lasts as long as its connection
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	c.in = bufio.NewReader(resp.Body)
	sender.write(request(event(<-r.tokens, "hello")))
	if status, body := sender.answer(); status != http.StatusOK || c.event() != "hello" {
		t.Fatal(status, body)
	}
}

// BenchmarkSender is a send on a connection that was taken over, and on one that was not.
func BenchmarkSender(b *testing.B) {
	for _, kept := range []bool{true, false} {
		b.Run(fmt.Sprintf("kept=%v", kept), func(b *testing.B) {
			r := start(b, nil)
			events, token := r.stream()
			go func() { _, _ = io.Copy(io.Discard, events.in) }()
			fields := []string{"User-Agent: x"}
			if !kept {
				fields = append(fields, "TE: trailers") // is net/http's
			}
			c := r.dial()
			text := request(event(token, strings.Repeat("x", 256)), fields...)
			for b.Loop() {
				c.write(text)
				if status, body := c.answer(); status != http.StatusOK {
					b.Fatal(status, body)
				}
			}
		})
	}
}

// A repeat on such a connection has no second effect either, and stays there; only one that has to wait is carried
// out elsewhere.
func TestKeptSenderRepeats(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Run("", func(t *testing.T) {
		r := start(t, nil)
		events, token := r.stream()
		sender := r.kept()
		for n, c := range []struct{ rest, want string }{
			{`,"event":{"data":"1"}`, `{"status":"ok"}`},
			{`,"event":{"data":"1"}`, `{"status":"ok","duplicate":true}`},
			{`,"event":{"data":"1"},"wait":"written"`, `{"status":"ok","duplicate":true}`},
			{`,"event":{"data":"2"}`, `"IDEMPOTENCY_KEY_REUSED"`},
			{`,"event":{"data":"1"}`, `{"status":"ok","duplicate":true}`},
		} {
			sender.write(request(`{"token":"` + token + `","idempotency_key":"k"` + c.rest + `}`))
			if status, body := sender.answer(); !strings.Contains(body, c.want) {
				t.Errorf("%d: %d %s, want %s", n, status, body, c.want)
			}
		}
		sender.write(request(event(token, "last")))
		if status, body := sender.answer(); status != http.StatusOK {
			t.Fatal(status, body)
		}
		for _, want := range []string{"1", "last"} {
			if got := events.event(); got != want {
				t.Errorf("received %q, want %q", got, want)
			}
		}
		r.eventually("the connection is still kept", func() bool { return r.senders.Conns() == 1 })
	})
}
