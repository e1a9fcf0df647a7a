package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// talks is what a gateway sends in longer than a proxy waits for the next bytes.
var talks = strings.Repeat("\n", 15)

// failing is a gateway and an application that fails as the target says.
type failing struct {
	port int

	mu    sync.Mutex
	asked map[string]int // how often, by target
}

func startFailing(t *testing.T) *failing {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &failing{port: l.Addr().(*net.TCPAddr).Port, asked: map[string]int{}}
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	t.Cleanup(func() { _ = l.Close() })
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { g.serve(conn) })
		}
	})
	return g
}

// serve serves a connection until the proxy, or a failure, ends it.
func (g *failing) serve(conn net.Conn) {
	defer conn.Close()
	for in := bufio.NewReader(conn); ; {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		g.mu.Lock()
		g.asked[r.RequestURI]++
		g.mu.Unlock()
		const streamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
		switch r.RequestURI {
		case "/events/dies", "/dies":
			return
		case "/events/talks":
			_, _ = io.WriteString(conn, streamHead)
			pace := time.NewTicker(100 * time.Millisecond)
			for range talks {
				<-pace.C
				_, _ = io.WriteString(conn, "1\r\n\n\r\n")
			}
			pace.Stop()
			_, _ = io.WriteString(conn, "0\r\n\r\n")
		case "/events/falls-silent":
			_, _ = io.WriteString(conn, streamHead+"1\r\n\n\r\n")
		case "/events/is-stuck":
		default:
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n")
		}
	}
}

func (g *failing) count(target string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked[target]
}

// fetch returns the status, or 0 if there was no answer, and the body.
func fetch(t *testing.T, e harness.Endpoint, target string) (int, string) {
	t.Helper()
	x, err := e.Do(t.Context(), harness.Request{Target: target})
	if err != nil {
		t.Fatal(err)
	}
	defer x.HangUp()
	body, end, err := x.Rest(harness.Patience)
	if end == harness.NotEnded {
		t.Fatalf("%s: %q without an end: %v", target, body, err)
	}
	head, err := x.Head(harness.Patience)
	if err != nil {
		t.Logf("%s: %v", target, err)
		return 0, ""
	}
	return head.Status, body
}

// patience is how long each proxy waits for the gateway.
var patience = map[string]string{
	"nginx": "proxy_read_timeout 60s", "haproxy": "timeout server  60s", "caddy": "read_timeout 60s", "apache": "ProxyTimeout 60",
	"traefik": "silence: 60s",
}

// A gateway that goes away with a request, or does not answer it, is asked once, also if its
// connection was in use before, and the client is told to come back. A stream on which nothing more
// comes is ended, and one on which something comes goes on.
func TestFrontsOfFailingGateway(t *testing.T) {
	t.Parallel()
	for _, name := range harness.Fronts() {
		for protocol, secured := range map[string]*harness.Certificate{"plain HTTP": nil, "TLS and HTTP 2": cert} {
			t.Run(fmt.Sprintf("%s with %s", name, protocol), func(t *testing.T) {
				t.Parallel()
				gw := startFailing(t)
				front := harness.StartFront(t, name, secured, gw.port, gw.port,
					patience[name], strings.Replace(patience[name], "60", "1", 1)).Endpoint
				if status, _ := fetch(t, front, "/events/answers"); status != http.StatusOK {
					t.Fatalf("a gateway that answers: %d", status)
				}
				for _, target := range []string{"/events/dies", "/events/is-stuck"} {
					status, body := fetch(t, front, target)
					// HAProxy refuses an HTTP/2 stream instead. An EventSource comes back after that, too.
					refused := status == 0 && name == "haproxy" && secured != nil
					if !refused && (status != http.StatusOK || !retryOnly.MatchString(body)) {
						t.Errorf("%s: %d %q, want a stream that only says retry", target, status, body)
					}
					if n := gw.count(target); n != 1 {
						t.Errorf("%s: asked %d times, want once", target, n)
					}
				}
				if status, body := fetch(t, front, "/events/falls-silent"); status != http.StatusOK || body != "\n" {
					t.Errorf("a gateway that falls silent: %d %q, want what it sent", status, body)
				}
				if status, body := fetch(t, front, "/events/talks"); status != http.StatusOK || body != talks {
					t.Errorf("a gateway that talks: %d %q, want all that it sent", status, body)
				}
				if status, _ := fetch(t, front, "/dies"); status == http.StatusOK {
					t.Error("an application that dies: 200, want an error")
				}
			})
		}
	}
}
