package callback

import (
	"bufio"
	"context"
	"io"
	"net"
	"path/filepath"
	"testing"

	"ssegateway/internal/gateway"
)

// A backend at a Unix socket that closes an idle connection, as a callback sets out on it, costs no client its stream.
func TestUnixSocketThatCloses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	unread := make(chan struct{}) // the second callback is on its way
	served := make(chan struct{})
	go func() {
		defer close(served)
		for n := 0; ; n++ {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			in := bufio.NewReader(nc)
			if readRequest(in) == nil {
				_, _ = io.WriteString(nc, okAnswer)
			}
			if n == 0 {
				<-unread
			} else {
				_, _ = io.Copy(io.Discard, in)
			}
			_ = nc.Close() // with bytes unread, if n is 0
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-served })
	c := newClient(t, Config{URL: "http://localhost/", Socket: path})
	check(t, connect(t, c), gateway.Answer{Outcome: gateway.Accepted, Status: 200})
	plain, dials := c.pool.dial, 0
	c.pool.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials++
		return plain(ctx, network, addr)
	}
	c.pool.mu.Lock()
	idle := c.pool.idle[0]
	c.pool.mu.Unlock()
	idle.Conn = &tellingConn{Conn: idle.Conn, wrote: unread}
	check(t, connect(t, c), gateway.Answer{Outcome: gateway.Accepted, Status: 200})
	if dials != 1 {
		t.Errorf("%d new connections, want 1", dials)
	}
}

// tellingConn says when something was written.
type tellingConn struct {
	net.Conn
	wrote chan struct{}
}

func (c *tellingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	close(c.wrote)
	return n, err
}
