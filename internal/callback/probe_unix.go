//go:build unix

package callback

// probe peeks at an idle connection's socket.
type probe struct {
	look  func(fd uintptr) // made once, so that a probe allocates nothing
	quiet bool
}

func (p *probe) init(c *conn) {
	if c.sys == nil {
		return
	}
	p.look = func(fd uintptr) { p.quiet = isQuiet(int(fd)) }
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
