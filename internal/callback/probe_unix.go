//go:build unix

package callback

import "golang.org/x/sys/unix"

// probe peeks at an idle connection's socket.
type probe struct {
	look  func(fd uintptr) // made once, so that a probe allocates nothing
	quiet bool
}

func (p *probe) init(c *conn) {
	if c.sys == nil {
		return
	}
	var b [1]byte
	p.look = func(fd uintptr) {
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		p.quiet = err == unix.EAGAIN
	}
}

// quiet reports that the backend neither closed the connection nor sent anything on it.
func (c *conn) quiet() bool {
	if c.probe.look == nil {
		return true
	}
	// Control, because Read would fail after the deadline of the last exchange.
	err := c.sys.Control(c.probe.look)
	return err == nil && c.probe.quiet
}
