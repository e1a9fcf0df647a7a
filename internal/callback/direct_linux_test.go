package callback

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// A connection whose system calls are made directly does what it does otherwise.
func TestDirect(t *testing.T) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{"net": func(c net.Conn) net.Conn { return c }, "direct": direct} {
		for _, network := range []string{"tcp", "unix"} {
			t.Run(name+", "+network, func(t *testing.T) {
				pair := func() (ours, peer net.Conn) {
					ours, peer = connected(t, network)
					return wrap(ours), peer
				}
				t.Run("large", func(t *testing.T) {
					ours, peer := pair()
					sent := bytes.Repeat([]byte("0123456789"), 1<<20)
					go func() {
						_, _ = ours.Write(sent)
						_ = ours.Close()
					}()
					if got, err := io.ReadAll(peer); err != nil || !bytes.Equal(got, sent) {
						t.Errorf("%d bytes of %d came: %v", len(got), len(sent), err)
					}
				})
				t.Run("late", func(t *testing.T) {
					ours, peer := pair()
					_ = ours.SetDeadline(time.Now().Add(20 * time.Millisecond))
					if n, err := ours.Read(make([]byte, 1)); n != 0 || !isTimeout(err) || !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("read: %d, %v", n, err)
					}
					_ = ours.SetDeadline(time.Now().Add(20 * time.Millisecond))
					n, err := ours.Write(make([]byte, 64<<20)) // more than buffers take
					if !isTimeout(err) {
						t.Errorf("write: %d, %v", n, err)
					}
					_ = ours.Close()
					if got, _ := io.Copy(io.Discard, peer); got != int64(n) {
						t.Errorf("%d bytes were written, and %d came", n, got)
					}
				})
				t.Run("ended", func(t *testing.T) {
					ours, peer := pair()
					_, _ = peer.Write([]byte("x"))
					_ = peer.Close()
					b := make([]byte, 8)
					if n, err := ours.Read(b[:0]); n != 0 || err != nil {
						t.Errorf("of nothing: %d, %v", n, err)
					}
					if n, err := ours.Read(b); n != 1 || err != nil {
						t.Errorf("%d, %v", n, err)
					}
					if n, err := ours.Read(b); n != 0 || err != io.EOF { //nolint:errorlint // exactly that
						t.Errorf("behind the end: %d, %v", n, err)
					}
				})
				t.Run("reset", func(t *testing.T) {
					ours, peer := pair()
					tcp, ok := peer.(*net.TCPConn)
					if !ok {
						return // others cannot be reset
					}
					_ = tcp.SetLinger(0)
					_ = peer.Close()
					_, err := ours.Read(make([]byte, 1))
					var op *net.OpError
					if !errors.Is(err, syscall.ECONNRESET) || !errors.As(err, &op) || op.Op != "read" {
						t.Errorf("read: %v", err)
					}
					if _, err := ours.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
						t.Errorf("write: %v", err)
					}
				})
				t.Run("closed meanwhile", func(t *testing.T) {
					ours, _ := pair()
					failed := make(chan error)
					go func() {
						_, err := ours.Read(make([]byte, 1))
						failed <- err
					}()
					_ = ours.Close()
					if err := <-failed; !errors.Is(err, net.ErrClosed) {
						t.Error(err)
					}
				})
			})
		}
	}
}

// connected returns both ends of a connection.
func connected(t *testing.T, network string) (ours, peer net.Conn) {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = t.TempDir() + "/s"
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if ours, err = net.Dial(network, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if peer, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = ours.Close()
		_ = peer.Close()
	})
	return ours, peer
}
