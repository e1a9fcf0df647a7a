package callback

import (
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"ssegateway/internal/epoll"
)

// directConn reads and writes the socket of a connection with system calls that do not tell the scheduler, since they
// never block. It takes one Read and one Write at a time.
type directConn struct {
	net.Conn

	raw     syscall.RawConn
	in, out operation
}

// operation is a Read or a Write. Its function is made once, so that a call allocates nothing.
type operation struct {
	do    func(fd uintptr) (done bool)
	p     []byte
	n     int
	errno syscall.Errno
}

// direct returns a directConn for a socket, and any other connection as it is.
func direct(nc net.Conn) net.Conn {
	var raw syscall.RawConn
	var err error
	switch s := nc.(type) {
	case *net.TCPConn:
		raw, err = s.SyscallConn()
	case *net.UnixConn:
		raw, err = s.SyscallConn()
	}
	if raw == nil || err != nil {
		return nc
	}
	c := &directConn{Conn: nc, raw: raw}
	c.in.do = func(fd uintptr) bool {
		for {
			c.in.n, c.in.errno = epoll.Receive(int(fd), c.in.p)
			if c.in.errno != unix.EINTR {
				return c.in.errno != unix.EAGAIN
			}
		}
	}
	c.out.do = func(fd uintptr) bool {
		for c.out.n < len(c.out.p) {
			n, errno := epoll.Send(int(fd), c.out.p[c.out.n:])
			switch errno {
			case 0:
				c.out.n += n
			case unix.EINTR:
			case unix.EAGAIN:
				return false
			default:
				c.out.errno = errno
				return true
			}
		}
		return true
	}
	return c
}

// Read implements net.Conn.
func (c *directConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	o := &c.in
	o.p = p
	err := c.raw.Read(o.do)
	o.p = nil
	switch {
	case err != nil:
		return 0, err
	case o.errno != 0:
		return 0, c.failed("read", "recvfrom", o.errno)
	case o.n == 0:
		return 0, io.EOF
	}
	return o.n, nil
}

// Write implements net.Conn.
func (c *directConn) Write(p []byte) (int, error) {
	o := &c.out
	o.p, o.n, o.errno = p, 0, 0
	err := c.raw.Write(o.do)
	o.p = nil
	if err == nil && o.errno != 0 {
		err = c.failed("write", "sendto", o.errno)
	}
	return o.n, err
}

func (c *directConn) failed(op, call string, errno syscall.Errno) error {
	return &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(call, errno)}
}
