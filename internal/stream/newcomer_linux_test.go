//go:build linux && !portable

package stream

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"ssegateway/internal/edge"
)

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
			none := func() int { return 0 }
			edges := edge.New(edge.Config{Limit: 10, Streams: none, Senders: none, Log: slog.New(slog.DiscardHandler)})
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
