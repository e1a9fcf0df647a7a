//go:build linux && !portable

package fastsend

import (
	"bufio"
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

func (fixed) Serve(Request) (int, []byte, func() (int, []byte)) {
	return http.StatusOK, []byte("{}"), nil
}

// pair returns a connection, and the same from the other side.
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

// waiting answers each send when it is told to.
type waiting chan struct{}

func (w waiting) Serve(Request) (int, []byte, func() (int, []byte)) {
	return 0, nil, func() (int, []byte) {
		<-w
		return http.StatusOK, []byte("{}")
	}
}

// A connection whose send waits has its descriptor, and counts.
func TestWaitingCounts(t *testing.T) {
	w := make(waiting)
	s, err := New(func() Handler { return w })
	if err != nil {
		t.Fatal(err)
	}
	server, client := pair(t)
	s.next.Store(uint32(len(s.loops) - 1)) // the first is next
	if !s.adopt(server, NewExit(&net.TCPAddr{}), "127.0.0.1:3000") {
		t.Fatal("not taken")
	}
	l := s.loops[0]
	if _, err := io.WriteString(client, plain); err != nil {
		t.Fatal(err)
	}
	c := l.conns[len(l.conns)-1]
	for l.open > 0 {
		l.serve(c)
	}
	if s.Conns() != 1 || l.closeIdlest() {
		t.Errorf("%d connections, while one waits", s.Conns())
	}
	w <- struct{}{}
	if _, err := http.ReadResponse(bufio.NewReader(client), nil); err != nil { //nolint:bodyclose // of a connection that is closed below
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
	if rest, err := io.ReadAll(client); err != nil || len(rest) > 0 { // the end comes when the connection is closed
		t.Errorf("%q, %v", rest, err)
	}
	if s.Conns() != 0 {
		t.Errorf("%d connections in the end", s.Conns())
	}
	_ = client.Close()
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
