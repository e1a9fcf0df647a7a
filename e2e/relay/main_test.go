package relay

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

var kinds []harness.Kind

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("8") // the longest tests wait
	}
	os.Exit(harness.Main(m, func(dir string) (err error) {
		kinds, err = harness.BuildKinds(dir)
		return err
	}))
}

// each runs a test on all kinds, or on those with one of these names.
func each(t *testing.T, f func(t *testing.T, k harness.Kind), names ...string) {
	t.Helper()
	t.Parallel()
	for _, k := range kinds {
		if len(names) == 0 || slices.Contains(names, k.Name) {
			t.Run(k.Name, func(t *testing.T) {
				t.Parallel()
				f(t, k)
			})
		}
	}
}

var (
	http1 = []string{harness.Detached, harness.Parked, harness.TLSHTTP1}
	http2 = []string{harness.TLSHTTP2, harness.H2CHTTP2}
)

// call is a request as the application got it.
type call struct {
	head string // as it came, up to and with the empty line
	*http.Request
	body  string
	token string
	conn  net.Conn
}

// own returns the lines of the head whose name begins with sse-gateway-, as some servers read it.
func (c *call) own() (lines []string) {
	for line := range strings.SplitSeq(c.head, "\r\n") {
		if strings.HasPrefix(strings.ReplaceAll(strings.ToLower(line), "_", "-"), "sse-gateway-") {
			lines = append(lines, line)
		}
	}
	return lines
}

// gone waits until the gateway has closed the application's connection.
func (c *call) gone(t *testing.T) time.Time {
	t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(harness.Patience))
	if n, err := c.conn.Read(make([]byte, 1)); n > 0 || os.IsTimeout(err) {
		t.Fatalf("the application was not left: %d %v", n, err)
	}
	return time.Now()
}

// say writes to the client, raw.
func (c *call) say(text string) { _, _ = io.WriteString(c.conn, text) }

// app is an application that speaks raw HTTP/1.1. It notes each request, and has answer write to it. The connection is
// used again if that returns true, and else closed.
type app struct {
	net.Listener
	calls chan *call // the latest, as many as fit

	mu    sync.Mutex
	count int
	open  map[net.Conn]struct{}
}

func startApp(t *testing.T, answer func(c *call) bool) *app {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &app{Listener: l, calls: make(chan *call, 1000), open: map[net.Conn]struct{}{}}
	var serving sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		a.mu.Lock()
		for nc := range a.open {
			nc.Close()
		}
		a.mu.Unlock()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			a.mu.Lock()
			a.open[nc] = struct{}{}
			a.mu.Unlock()
			serving.Go(func() { a.serve(nc, answer) })
		}
	})
	return a
}

func (a *app) serve(nc net.Conn, answer func(c *call) bool) {
	defer func() {
		nc.Close()
		a.mu.Lock()
		delete(a.open, nc)
		a.mu.Unlock()
	}()
	in := bufio.NewReader(nc)
	for {
		var head strings.Builder
		for !strings.HasSuffix(head.String(), "\r\n\r\n") {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			head.WriteString(line)
		}
		r, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(head.String()), in)))
		if err != nil {
			return
		}
		body, err := io.ReadAll(r.Body)
		c := &call{head: head.String(), Request: r, body: string(body), token: r.Header.Get("Sse-Gateway-Token"), conn: nc}
		a.mu.Lock()
		a.count++
		a.mu.Unlock()
		select {
		case a.calls <- c:
		default:
		}
		if err != nil || !answer(c) {
			return
		}
	}
}

// asked returns how many requests have come.
func (a *app) asked() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count
}

// next waits for the next request.
func (a *app) next(t *testing.T) *call {
	t.Helper()
	select {
	case c := <-a.calls:
		return c
	case <-time.After(harness.Patience):
		t.Fatal("the application was not asked")
		return nil
	}
}

// plain answers with a text.
func plain(text string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
}

// stream is the head of a stream without length.
const stream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n"

// site is a gateway in front of an application.
type site struct {
	*harness.Gateway
	t        *testing.T
	endpoint harness.Endpoint
}

// start starts a gateway of a kind that relays /app to the application.
func start(t *testing.T, k harness.Kind, a *app, settings ...string) *site {
	t.Helper()
	all := slices.Concat(k.Settings, []string{"RELAY_URL=http://" + a.Addr().String(), "RELAY_PATHS=/app"}, settings)
	g := harness.StartGateway(t, k.Command[0], k.Cert, all...)
	return &site{Gateway: g, t: t, endpoint: k.At("127.0.0.1", g.Port)}
}

// do makes a request on a connection of its own.
func (s *site) do(r harness.Request) *harness.Exchange {
	s.t.Helper()
	x, err := s.endpoint.Do(context.Background(), r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(x.HangUp)
	return x
}

// status makes a request, and requires this status.
func (s *site) status(r harness.Request, want int) (*harness.Exchange, *harness.Head) {
	s.t.Helper()
	x := s.do(r)
	head, err := x.Head(harness.Patience)
	if err != nil || head.Status != want {
		s.t.Fatalf("%s %s %v: %+v %v, want %d", r.Method, r.Target, r.Header, head, err, want)
	}
	return x, head
}

// dial opens a connection to the gateway.
func (s *site) dial() net.Conn {
	s.t.Helper()
	nc, err := s.endpoint.Dial(context.Background(), 0, "")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(harness.Patience))
	return nc
}

// url returns the URL of a path at the gateway.
func (s *site) url(path string) string { return s.endpoint.Scheme() + "://" + s.endpoint.Addr + path }

// next requires that the next bytes of an answer are these.
func next(t *testing.T, x *harness.Exchange, want string) {
	t.Helper()
	if got, err := x.Next(len(want), harness.Patience); got != want {
		t.Fatalf("%q %v, want %q", got, err, want)
	}
}

// end requires that nothing but this comes, and then that end.
func end(t *testing.T, x *harness.Exchange, rest string, want harness.End) {
	t.Helper()
	if got, end, err := x.Rest(harness.Patience); got != rest || end != want {
		t.Errorf("%.300q, %v (%v), want %.300q, %v", got, end, err, rest, want)
	}
}
