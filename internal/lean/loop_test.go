//go:build linux && !portable

package lean

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixed answers each send alike.
type fixed struct{}

func (fixed) Serve([]byte, []byte) (int, []byte, func() (int, []byte)) {
	return http.StatusOK, []byte("{}"), nil
}

// pair is a connection, and the same from the other side.
func pair(t *testing.T) (server, client net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	_ = client.SetDeadline(time.Now().Add(20 * time.Second))
	return server, client
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// What is idle for long is closed, and a request that does not come to its end is
// net/http's, with what came of it. Nothing stays behind.
func TestSweep(t *testing.T) {
	before := descriptors(t)
	s, err := New(func() Handler { return fixed{} })
	if err != nil {
		t.Fatal(err)
	}
	exit := NewExit(&net.TCPAddr{})
	l := s.loops[0]
	take := func() net.Conn {
		server, client := pair(t)
		s.next.Store(uint32(len(s.loops) - 1)) // the first is next
		s.Take(server, nil, exit, "127.0.0.1:3000", http.StatusOK, []byte("{}"))
		answer := make([]byte, len(appendAnswer(nil, http.StatusOK, http.TimeFormat, []byte("{}"))))
		if _, err := io.ReadFull(client, answer); err != nil || s.Conns() == 0 {
			t.Fatal(err, s.Conns())
		}
		return client
	}
	now := time.Now()

	idle := take()
	l.sweep(now)
	l.sweep(now.Add(idleTimeout - time.Second))
	if s.Conns() != 1 {
		t.Error("closed too early")
	}
	l.sweep(now.Add(idleTimeout))
	if n, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || s.Conns() != 0 {
		t.Errorf("idle for long: %d, %v, %d connections", n, err, s.Conns())
	}

	slow := take()
	if _, err := io.WriteString(slow, plain[:30]); err != nil {
		t.Fatal(err)
	}
	c := l.conns[len(l.conns)-1]
	for c.begun == nil {
		l.serve(c)
	}
	l.sweep(now)
	l.sweep(now.Add(unfinishedTimeout))
	back, err := exit.Accept()
	if err != nil || s.Conns() != 0 || !Returned(back) {
		t.Fatal(back, err, s.Conns())
	}
	if _, err := io.WriteString(slow, plain[30:]); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(plain))
	if _, err := io.ReadFull(back, got); err != nil || string(got) != plain {
		t.Errorf("%q, %v", got, err)
	}
	_ = back.Close()
	_ = slow.Close()
	_ = idle.Close()

	// Whatever is still there goes with the server; and what comes later is not kept.
	rest := take()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil || s.Conns() != 0 {
		t.Error(err, s.Conns())
	}
	if text, err := io.ReadAll(rest); err != nil || len(text) > 0 {
		t.Errorf("%q, %v", text, err)
	}
	_ = rest.Close()
	late, client := pair(t)
	s.Take(late, nil, exit, "127.0.0.1:3000", http.StatusOK, nil)
	if text, err := io.ReadAll(client); err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 200") {
		t.Errorf("%q, %v", text, err)
	}
	_ = client.Close()
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
