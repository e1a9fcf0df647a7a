//go:build linux && !portable

package stream

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ssegateway/internal/edge"
)

func newEdge() *edge.Edge {
	none := func() int { return 0 }
	return edge.New(edge.Config{Limit: 10, Streams: none, Senders: none, Log: slog.New(slog.DiscardHandler)})
}

// When the kernel refuses to watch a socket, its client sees the end, and Accept fails, so that its caller waits.
func TestNewcomerIsNotWatched(t *testing.T) {
	for name, request := range map[string]string{"whole": "GET / HTTP/1.1\r\nHost: test\r\n\r\n", "begun": "GET / H"} {
		t.Run(name, func(t *testing.T) {
			o, err := NewOpener()
			if err != nil {
				t.Fatal(err)
			}
			defer o.detacher.set.Close()
			o.detacher.set.FD = -1 // that is refused, too
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			edges := newEdge()
			l = o.Front(l, FrontConfig{Edge: edges, Handles: func(string) bool { return true }})
			defer l.Close()
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.WriteString(c, request); err != nil {
				t.Fatal(err)
			}
			failed := make(chan error, 1)
			go func() {
				_, err := l.Accept()
				failed <- err
			}()
			if answer, err := io.ReadAll(c); len(answer) > 0 || err != nil {
				t.Errorf("the client gets %q, %v", answer, err)
			}
			select {
			case err := <-failed:
				if of := (*os.SyscallError)(nil); !errors.As(err, &of) || of.Syscall != "epoll_ctl" {
					t.Error(err)
				}
			case <-time.After(10 * time.Second):
				t.Error("Accept does not fail")
			}
			if open := edges.Stats().Open; open != (edge.Stats{}).Open {
				t.Errorf("open: %v", open)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			o.Settle(ctx)
			if ctx.Err() != nil {
				t.Error("it is not settled")
			}
		})
	}
}

// A connection that the runtime cannot wait for is none.
func TestSocketConnIsNotWatched(t *testing.T) {
	file, err := syscall.Open(filepath.Join(t.TempDir(), "file"), syscall.O_CREAT|syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0o600) // epoll takes none
	if err != nil {
		t.Fatal(err)
	}
	if c, err := newSocketConn(file, &net.TCPAddr{}, &net.TCPAddr{}); err == nil {
		_ = c.Close()
		t.Fatal("it is a connection")
	}
	if err := syscall.Close(file); !errors.Is(err, syscall.EBADF) {
		t.Errorf("the descriptor is open: %v", err)
	}
}

// Another process can make a listener blocking that it shares. That stops no goroutine but the one that accepts. What else it
// has set does not come to streams.
func TestSharedListener(t *testing.T) {
	lc := ListenConfig()
	ours, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp := ours.(*net.TCPListener) //nolint:forcetypeassert // it is one
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 5})
	}); err != nil {
		t.Fatal(err)
	}
	o, err := NewOpener()
	if err != nil {
		t.Fatal(err)
	}
	defer o.detacher.set.Close()
	l, err := Adopt(tcp)
	if err != nil {
		t.Fatal(err)
	}
	l = o.Front(l, FrontConfig{Edge: newEdge(), Handles: func(string) bool { return false }})
	defer l.Close()
	var linger int
	if err := raw.Control(func(fd uintptr) {
		linger, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_LINGER)
		_ = unix.SetNonblock(int(fd), false)
	}); err != nil || linger != 0 {
		t.Errorf("SO_LINGER is %d, %v", linger, err)
	}
	accepted := make(chan error, 1)
	go func() {
		nc, err := l.Accept()
		if err == nil {
			_ = nc.Close()
		}
		accepted <- err
	}()
	// As long as the world cannot be stopped, this process stands still, its timers too. Then another one connects.
	rescue := exec.CommandContext(t.Context(), "bash", "-c", "sleep 20; echo >/dev/tcp/127.0.0.1/"+strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	if err := rescue.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = rescue.Process.Kill()
		_ = rescue.Wait()
	}()
	began := time.Now()
	for range 100 { // it accepts by then
		runtime.GC()
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it took %s to stop the world", took)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := <-accepted; err != nil {
		t.Error(err)
	}
}
