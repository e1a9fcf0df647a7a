package edge

import (
	"net"
	"time"
)

// AdmitSocket makes a socket that was just accepted, and has no net.Conn yet, one of the edge's. It returns nil if there
// is no room for it. The edge calls abort, without a lock of its own, when the socket makes room for another connection.
// abort closes the socket, unless that was closed or passed on meanwhile.
func (e *Edge) AdmitSocket(peer net.Addr, refusal Refusal, abort func()) *Conn {
	c := &Conn{edge: e, accepted: time.Now(), addr: addrOf(peer), refusal: refusal, abort: abort}
	if !e.admit(c) {
		return nil
	}
	return c
}

// Received records that n bytes of a socket's first request have come.
func (c *Conn) Received(n int) { c.received.Add(int64(n)) }

// Working records that a handler works for a socket's first request. It returns false if the socket has made room for
// another connection, and is to be closed.
func (c *Conn) Working() bool {
	c.edge.mu.Lock()
	defer c.edge.mu.Unlock()
	c.beginLocked(false)
	return c.counted
}

// Forget takes a socket off the edge's account. It is closed, or somebody else's from now on.
func (c *Conn) Forget() { c.forget() }

// Become makes nc, which was made of the socket, the connection beneath, for net/http. early is what was read of it. It
// returns false if the socket has made room for another connection, and nc is to be closed.
func (c *Conn) Become(nc net.Conn, early []byte) bool {
	c.edge.mu.Lock()
	defer c.edge.mu.Unlock()
	c.Conn, c.abort = nc, nil
	if len(early) > 0 {
		c.proxied = &proxied{early: early}
		c.received.Store(0) // net/http reads them again, which counts them
	}
	return c.counted
}

// cutLocked returns what closes a connection that makes room for another one. It is called without the lock. c may be
// nil, and then there is nothing to close.
func (c *Conn) cutLocked() func() {
	switch {
	case c == nil:
		return func() {}
	case c.abort != nil:
		return c.abort
	}
	nc := c.Conn
	return func() { _ = nc.Close() }
}
