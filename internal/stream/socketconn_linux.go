//go:build linux && !portable

package stream

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ssegateway/internal/edge"
)

// socketConn is a TCP connection that was made of a socket. [net.FileConn] would duplicate the descriptor, and ask the
// kernel for what is known here.
type socketConn struct {
	file          *os.File
	raw           syscall.RawConn
	local, remote net.Addr
}

// newSocketConn makes a connection of a socket, which has to be non-blocking. When it fails, the socket is closed.
func newSocketConn(fd int, local, remote net.Addr) (edge.TCP, error) {
	file := os.NewFile(uintptr(fd), "tcp")
	raw, err := file.SyscallConn()
	if err == nil {
		err = file.SetDeadline(time.Time{}) // fails if the kernel refuses to watch it, which NewFile does not tell
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &socketConn{file, raw, local, remote}, nil
}

// Read implements net.Conn.
func (c *socketConn) Read(p []byte) (int, error) {
	n, err := c.file.Read(p)
	return n, c.named("read", err)
}

// Write implements net.Conn.
func (c *socketConn) Write(p []byte) (int, error) {
	n, err := c.file.Write(p)
	return n, c.named("write", err)
}

// named makes an error of a file one of a connection.
func (c *socketConn) named(op string, err error) error {
	if err == nil || err == io.EOF { //nolint:errorlint // it is returned as it is
		return err
	}
	if of := (*os.PathError)(nil); errors.As(err, &of) {
		err = of.Err
	}
	if errors.Is(err, os.ErrClosed) {
		err = net.ErrClosed
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

// Close implements net.Conn.
func (c *socketConn) Close() error { return c.named("close", c.file.Close()) }

// LocalAddr implements net.Conn.
func (c *socketConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *socketConn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *socketConn) SetDeadline(t time.Time) error { return c.named("set", c.file.SetDeadline(t)) }

// SetReadDeadline implements net.Conn.
func (c *socketConn) SetReadDeadline(t time.Time) error {
	return c.named("set", c.file.SetReadDeadline(t))
}

// SetWriteDeadline implements net.Conn.
func (c *socketConn) SetWriteDeadline(t time.Time) error {
	return c.named("set", c.file.SetWriteDeadline(t))
}

// SyscallConn implements syscall.Conn.
func (c *socketConn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }

// CloseWrite implements [edge.TCP].
func (c *socketConn) CloseWrite() error {
	return c.control(func(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) })
}

// SetKeepAlive implements [edge.TCP].
func (c *socketConn) SetKeepAlive(on bool) error {
	return c.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, number(on)) })
}

// SetKeepAliveConfig implements [edge.TCP].
func (c *socketConn) SetKeepAliveConfig(k net.KeepAliveConfig) error {
	return c.control(func(fd int) error {
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, number(k.Enable)),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(k.Idle/time.Second)),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(k.Interval/time.Second)),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, k.Count),
		)
	})
}

func number(on bool) int {
	if on {
		return 1
	}
	return 0
}

// SetLinger implements [edge.TCP].
func (c *socketConn) SetLinger(seconds int) error {
	return c.control(func(fd int) error {
		return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: int32(number(seconds >= 0)), Linger: int32(max(seconds, 0))}) //nolint:gosec // seconds
	})
}

// SetWriteBuffer implements [edge.TCP].
func (c *socketConn) SetWriteBuffer(bytes int) error {
	return c.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, bytes) })
}

func (c *socketConn) control(f func(fd int) error) error {
	var failure error
	if err := c.raw.Control(func(fd uintptr) { failure = f(int(fd)) }); err != nil {
		return c.named("set", err)
	}
	return c.named("set", failure)
}
