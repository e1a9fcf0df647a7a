package edge

import (
	"context"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A connection of the internal API is probed while it is silent, and has room and time for long
// answers, whatever its listener was made for.
func TestTrustedSocket(t *testing.T) {
	lc := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 32<<10)
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 10_000)
		})
	}}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(10, 5)
	l = w.Listen(l, Plain, nil)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	options := func() (keepAlive, buffer, timeout int) {
		raw, err := Of(nc).Conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) {
			keepAlive, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
			buffer, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF)
			timeout, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		})
		return keepAlive, buffer, timeout
	}
	if keepAlive, buffer, timeout := options(); keepAlive != 0 || buffer != 64<<10 || timeout != 10_000 {
		t.Errorf("a stranger: keep-alive %d, send buffer %d, user timeout %d", keepAlive, buffer, timeout)
	}
	Trust(Context(context.Background(), nc))
	if keepAlive, buffer, timeout := options(); keepAlive != 1 || buffer <= 128<<10 || timeout != 0 {
		t.Errorf("a caller: keep-alive %d, send buffer %d, user timeout %d", keepAlive, buffer, timeout)
	}
	if w.internal != 1 || w.open != 1 {
		t.Errorf("%d of %d are internal", w.internal, w.open)
	}
}
