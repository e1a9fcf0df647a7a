package callback

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/bubble"
	"ssegateway/internal/gateway"
)

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

// A backend that closes idle connections as it likes costs no client its stream, and
// has each callback exactly once.
func TestIdleConnectionsThatTheBackendCloses(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere a few of these races cannot be told from a lost answer")
	}
	stale, end := staleWindow, endWait
	defer func() { staleWindow, endWait = stale, end }()
	staleWindow, endWait = 10*time.Second, 10*time.Second

	connects := 2000
	if testing.Short() {
		connects = 200
	}
	// Each is how long the connection stays open after an answer.
	for name, patience := range map[string]func() time.Duration{
		"at once":         func() time.Duration { return -1 },
		"after no time":   func() time.Duration { return 0 },
		"within 300 µs":   func() time.Duration { return rand.N(300 * time.Microsecond) },
		"within 3 ms":     func() time.Duration { return rand.N(3 * time.Millisecond) },
		"at once, or not": func() time.Duration { return time.Duration(rand.IntN(2)*2-1) * time.Second },
	} {
		for form, config := range map[string]*tls.Config{"plain": nil, "tls": serverTLS(t)} {
			for _, clients := range []int{1, 8} {
				n := connects / clients
				if config != nil {
					n /= 5
				}
				for _, inTwoSteps := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s, %s, %d clients, in two steps %v", name, form, clients, inTwoSteps), func(t *testing.T) {
						hammer(t, config, patience, inTwoSteps, clients, n)
					})
				}
			}
		}
	}
}

func hammer(t *testing.T, config *tls.Config, patience func() time.Duration, inTwoSteps bool, clients, connects int) {
	var mu sync.Mutex
	seen := map[string]int{}
	var conns atomic.Int32
	address := rawBackend(t, config, func(c net.Conn, in *bufio.Reader) {
		conns.Add(1)
		if half, ok := c.(interface{ CloseWrite() error }); ok && inTwoSteps {
			defer func() { _ = half.CloseWrite() }()
		}
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			b := decode(t, r.Body)
			mu.Lock()
			seen[b.Token]++
			mu.Unlock()
			_, _ = io.WriteString(c, okAnswer)
			wait := patience()
			if wait < 0 {
				return
			}
			c.SetReadDeadline(time.Now().Add(wait))
			if _, err := in.Peek(1); err != nil {
				return
			}
			c.SetReadDeadline(time.Time{})
		}
	})
	c := newTLSClient(t, Config{}, address, config)
	var all sync.WaitGroup
	var mine sync.Map
	for range clients {
		all.Go(func() {
			for range connects {
				token := gateway.NewToken()
				mine.Store(token.String(), true)
				check(t, c.Connect(t.Context(), context.Background(), token, request), gateway.Answer{Outcome: gateway.Accepted, Status: 200})
				if rand.IntN(4) == 0 { // so that closes find connections idle
					<-time.After(rand.N(time.Millisecond))
				}
			}
		})
	}
	all.Wait()
	mu.Lock()
	defer mu.Unlock()
	mine.Range(func(token, _ any) bool {
		if n := seen[token.(string)]; n != 1 {
			t.Errorf("the backend has the connect of %s %d times", token, n)
		}
		return true
	})
	if len(seen) != clients*connects {
		t.Errorf("the backend has %d tokens of %d", len(seen), clients*connects)
	}
	t.Logf("%d connects by %d connections", len(seen), conns.Load())
}

// While the backend keeps them open, few connections carry many callbacks.
func TestConnectionsAreUsedAgain(t *testing.T) {
	for name, answer := range map[string]string{
		"length":  okAnswer,
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		"none":    "HTTP/1.1 204 No Content\r\n\r\n",
		"error":   "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\n{}",
	} {
		for form, config := range map[string]*tls.Config{"plain": nil, "tls": serverTLS(t)} {
			t.Run(name+", "+form, func(t *testing.T) {
				var conns atomic.Int32
				address := rawBackend(t, config, func(c net.Conn, in *bufio.Reader) {
					conns.Add(1)
					for readRequest(in) == nil {
						_, _ = io.WriteString(c, answer)
					}
				})
				c := newTLSClient(t, Config{}, address, config)
				for range 50 {
					connect(t, c)
				}
				if n := conns.Load(); n != 1 {
					t.Errorf("%d connections for 50 callbacks", n)
				}
			})
		}
	}
}

// The three ends that a connection which was idle can come to.
func TestFate(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("asks the Linux kernel")
	}
	for name, end := range map[string]struct {
		serve func(c *net.TCPConn, in *bufio.Reader, written <-chan struct{})
		want  fate
	}{
		"closed before": {func(c *net.TCPConn, _ *bufio.Reader, _ <-chan struct{}) { c.Close() }, untouched},
		"closed unread": {func(c *net.TCPConn, _ *bufio.Reader, written <-chan struct{}) { <-written; c.Close() }, unread},
		"closed read": {func(c *net.TCPConn, in *bufio.Reader, written <-chan struct{}) {
			<-written
			_ = readRequest(in)
			c.Close()
		}, unknown},
		"half-closed, read": {func(c *net.TCPConn, in *bufio.Reader, written <-chan struct{}) {
			<-written
			_ = readRequest(in)
			_ = c.CloseWrite()
			_, _ = io.Copy(io.Discard, in)
		}, unknown},
	} {
		t.Run(name, func(t *testing.T) {
			written, closed := make(chan struct{}), make(chan struct{})
			address := rawBackend(t, nil, func(c net.Conn, in *bufio.Reader) {
				_ = readRequest(in)
				_, _ = io.WriteString(c, okAnswer)
				if end.want == untouched {
					end.serve(c.(*net.TCPConn), in, nil)
					close(closed)
					return
				}
				close(closed)
				end.serve(c.(*net.TCPConn), in, written)
			})
			c := newClient(t, Config{URL: "http://" + address})
			connect(t, c)
			conn := c.pool.pop()
			<-closed
			before := *conn.written
			message := c.appendConnect(nil, gateway.NewToken(), broker.Position{}, request, "")
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := conn.Write(message); err != nil {
				t.Fatal(err)
			}
			close(written)
			_, err := readHead(conn, posted, nil) //nolint:bodyclose // there is none
			if err == nil {
				t.Fatal("an answer")
			}
			if got := conn.fate(before, err); got != end.want {
				t.Errorf("fate %d, want %d (%v)", got, end.want, err)
			}
			conn.Close()
		})
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newPipeBackend(t)
		c := b.client(t, Config{})
		connect(t, c)
		<-time.After(idleTimeout / 2)
		c.Connect(t.Context(), context.Background(), gateway.NewToken(), request)
		if n := b.dials(); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
		<-time.After(idleTimeout + time.Millisecond)
		synctest.Wait()
		if n := b.open(); n != 0 {
			t.Errorf("%d connections are open after %v", n, idleTimeout)
		}
		connect(t, c)
		if n := b.dials(); n != 2 {
			t.Errorf("%d connections, want 2", n)
		}
	})
}

// A backend that is restarting may close even a connection that is new.
func TestNewConnectionsThatTheBackendCloses(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("asks the Linux kernel")
	}
	for closes := 1; closes <= maxConnections; closes++ {
		var conns atomic.Int32
		address := rawBackend(t, nil, func(c net.Conn, in *bufio.Reader) {
			if int(conns.Add(1)) > closes && readRequest(in) == nil {
				_, _ = io.WriteString(c, okAnswer)
			}
		})
		c := newClient(t, Config{URL: "http://" + address})
		plain, dials := c.pool.dial, 0
		c.pool.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := plain(ctx, network, addr)
			if dials++; err == nil && dials <= closes {
				// Not before the close is here is anything written.
				_, _ = conn.Read(make([]byte, 1))
			}
			return conn, err
		}
		want := gateway.Answer{Outcome: gateway.Accepted, Status: 200}
		if closes == maxConnections {
			want = gateway.Answer{Outcome: gateway.Unreachable}
		}
		check(t, connect(t, c), want)
	}
}
