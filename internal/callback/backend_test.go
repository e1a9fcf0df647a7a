package callback

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"go.uber.org/goleak"

	"ssegateway/internal/gateway"
	"ssegateway/internal/logging/loggingtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// body is a callback as a backend decodes it.
type body struct {
	Action  string  `json:"action"`
	Reason  string  `json:"reason"`
	Detail  *string `json:"detail"`
	Token   string  `json:"token"`
	Request struct {
		URL     string            `json:"url"`
		Headers map[string]string `json:"headers"`
	} `json:"request"`
}

func decode(t testing.TB, r io.Reader) (b body) {
	t.Helper()
	if err := json.UnmarshalRead(r, &b); err != nil {
		t.Errorf("the callback's body: %v", err)
	}
	return b
}

var request = []byte(`{"url":"/a?b","headers":{"host":"example.org"}}`)

// newClient makes a client that runs until the test ends.
func newClient(t testing.TB, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	run(t, c)
	return c
}

func run(t testing.TB, c *Client) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run(ctx)
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func connect(t testing.TB, c *Client) gateway.Answer {
	return c.Connect(t.Context(), context.Background(), gateway.NewToken(), request)
}

// check compares answers but for their bodies.
func check(t testing.TB, got, want gateway.Answer) {
	t.Helper()
	got.Body = nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("answer %+v, want %+v", got, want)
	}
}

// httpBackend serves HTTP until the test ends.
func httpBackend(t testing.TB, h http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	t.Cleanup(s.Close)
	return s
}

// rawBackend gives each connection to serve, which owns it, until the test ends.
func rawBackend(t testing.TB, config *tls.Config, serve func(net.Conn, *bufio.Reader)) (addr string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if config != nil {
				c = tls.Server(c, config)
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			served.Go(func() {
				serve(c, bufio.NewReader(c))
				c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		served.Wait()
	})
	return l.Addr().String()
}

// answers returns a rawBackend that reads one request a connection, sends text, and leaves
// the connection open until the client closes it.
func answers(t testing.TB, text string) string {
	return "http://" + rawBackend(t, nil, func(c net.Conn, in *bufio.Reader) {
		if readRequest(in) == nil {
			_, _ = io.WriteString(c, text)
			_, _ = io.Copy(io.Discard, in)
		}
	})
}

func readRequest(in *bufio.Reader) error {
	r, err := http.ReadRequest(in)
	if err == nil {
		_, err = io.Copy(io.Discard, r.Body)
	}
	return err
}

// logBuffer keeps what is logged.
type logBuffer struct{ loggingtest.Buffer }

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// results counts what is observed.
type results struct {
	mu sync.Mutex
	n  map[string]int
}

func (r *results) observe(action, result string, _ time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n == nil {
		r.n = map[string]int{}
	}
	r.n[action+" "+result]++
}

func (r *results) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.TrimPrefix(fmt.Sprint(r.n), "map")
}
