//go:build linux && !portable

package stream

import (
	"bytes"
	"container/list"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ssegateway/internal/edge"
	"ssegateway/internal/epoll"
	"ssegateway/internal/gateway"
)

// newcomer is a socket that was accepted, until its first request is answered, or it becomes a stream's or net/http's.
type newcomer struct {
	// Fixed after begin.
	front      *Front
	fd         int32
	peer       *net.TCPAddr
	conn       *edge.Conn
	since      time.Time // when it was accepted
	generation uint32    // as that of a socket; 0: the set does not watch it

	reading sync.Mutex    // held while the request is read, and by whoever ends that
	begun   []byte        // of the request, while it is not whole; guarded by reading
	request *http.Request // nil until it is handled; guarded by reading, and fixed from then on

	// Guarded by the detacher's lock:
	place   *list.Element // in the front's list of those that wait for their request; nil: not there
	handled bool          // a worker has it
	seen    bool          // something was seen of the client since
	gone    bool          // the descriptor is closed, or somebody else's; until it is handled, reading guards it, too

	ctx firstContext
}

// begin reads what has come of the first request of a socket that was accepted, which mostly is all of it. It returns
// the connection if that is net/http's, otherwise nil. When it fails, the socket is closed.
func (f *Front) begin(fd int, peer *net.TCPAddr) (net.Conn, error) {
	c := &newcomer{front: f, fd: int32(fd), peer: peer, since: time.Now()} //nolint:gosec // a descriptor
	if c.conn = f.cfg.Edge.AdmitSocket(peer, f.cfg.Refusal, c.evict); c.conn == nil {
		epoll.Close(fd)
		return nil, nil
	}
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.gone { // it had to make room
		return nil, nil
	}
	var r *http.Request
	v := unfinished
	if n, errno := epoll.Receive(fd, f.accepted[:]); errno == 0 {
		if n == 0 { // somebody looked whether there is a listener
			c.abort()
			return nil, nil
		}
		c.conn.Received(n)
		if r, v = c.read(f.accepted[:n]); v == foreign {
			return c.pass(f.accepted[:n])
		}
	}
	if err := c.watch(); err != nil { // the kernel allows no more
		c.abort()
		return nil, err
	}
	if v == plain {
		c.handle(r)
	} else {
		c.wait()
	}
	return nil, nil
}

// watch has the set watch the socket.
func (c *newcomer) watch() error {
	d := c.front.d
	d.mu.Lock()
	d.addLocked(c)
	d.mu.Unlock()
	return os.NewSyscallError("epoll_ctl", d.control(unix.EPOLL_CTL_ADD, c.fd, c.generation, watched))
}

// wait leaves a request that is not whole to ready, and to the front when its time is over.
func (c *newcomer) wait() {
	d := c.front.d
	d.mu.Lock()
	defer d.mu.Unlock()
	c.place = c.front.waiting.PushBack(c)
}

// take makes the socket the caller's, who closes it or passes it on. It returns false if it is gone. With waiting it
// also returns false if a worker has it, and reading has to be held.
func (c *newcomer) take(waiting bool) bool {
	d := c.front.d
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.gone || waiting && c.handled {
		return false
	}
	d.removeLocked(c)
	return true
}

// evict closes a socket whose request has not come yet, and that the edge has forgotten.
func (c *newcomer) evict() {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.take(true) {
		epoll.Close(int(c.fd))
	}
}

// abort closes a socket whose request has not come yet. reading has to be held, so that nobody reads of a descriptor
// that is closed.
func (c *newcomer) abort() {
	if c.take(true) {
		c.conn.Forget()
		epoll.Close(int(c.fd))
	}
}

// ready implements [watcher].
func (c *newcomer) ready(events uint32) {
	c.reading.Lock()
	defer c.reading.Unlock()
	switch {
	case c.request != nil:
		c.look()
		return
	case c.gone:
		return
	}
	buffer := c.front.buffer[:]
	n := copy(buffer, c.begun)
	for {
		got, errno := epoll.Receive(int(c.fd), buffer[n:])
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			return
		case errno != 0, got == 0 && n == 0:
			c.abort()
			return
		case got == 0: // net/http answers half a request
			c.passLate(buffer[:n])
			return
		}
		c.conn.Received(got)
		n += got
		switch r, v := c.read(buffer[:n]); v {
		case unfinished: // edge-triggered: until nothing is left
			continue
		case foreign:
			c.passLate(buffer[:n])
		case plain:
			c.handle(r)
			if events&^unix.EPOLLIN != 0 { // the client has closed its half behind the request, say
				c.look()
			}
		}
		return
	}
}

// read returns the request if it is whole, plain, and for the front's handler. It keeps what there is of one that is not
// whole: b begins with what it has kept.
func (c *newcomer) read(b []byte) (*http.Request, verdict) {
	switch judge(b, len(c.begun)) {
	case unfinished:
		c.begun = append(c.begun, b[len(c.begun):]...)
		return nil, unfinished
	case plain:
		head := string(b)
		if c.front.cfg.Handles(targetOf(head)) {
			if r, ok := readGet(&c.ctx, head); ok {
				return r, plain
			}
		}
	case foreign:
	}
	return nil, foreign
}

// look ends the context of the request if the client has left, or sent more. It leaves the bytes where they are: a stream
// looks at them again.
func (c *newcomer) look() {
	d := c.front.d
	d.mu.Lock() // so that a worker does not close the socket meanwhile
	defer d.mu.Unlock()
	if c.gone {
		return
	}
	if reason, detail := left(c.fd, true); reason != 0 {
		c.endLocked(reason, detail)
	}
}

// endLocked ends the context of a request that is handled.
func (c *newcomer) endLocked(reason gateway.Reason, detail gateway.Detail) {
	c.ctx.end(reason, detail)
}

// pass makes a connection for net/http of the socket, with the bytes that were read of it. It returns nil if the socket
// is gone. When it fails, the socket is closed.
func (c *newcomer) pass(early []byte) (net.Conn, error) {
	if !c.take(true) {
		return nil, nil
	}
	if c.generation != 0 {
		_ = c.front.d.control(unix.EPOLL_CTL_DEL, c.fd, 0, 0) // cannot fail: the set has it
	}
	nc, err := newSocketConn(int(c.fd), c.front.Addr(), c.peer)
	if err != nil {
		c.conn.Forget()
		return nil, err
	}
	if !c.conn.Become(nc, bytes.Clone(early)) {
		_ = nc.Close()
		return nil, nil
	}
	return c.conn, nil
}

// passLate passes a connection to Accept.
func (c *newcomer) passLate(early []byte) {
	if nc, err := c.pass(early); nc != nil || err != nil {
		c.front.addLate(late{nc, err})
	}
}

// handle has a worker handle the request.
func (c *newcomer) handle(r *http.Request) {
	peer := c.peer.AddrPort()
	r.RemoteAddr = netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port()).String() // as c.peer.String, with one allocation
	c.request = r
	c.begun = nil
	d := c.front.d
	d.mu.Lock()
	c.handled = true
	c.leaveListLocked()
	d.mu.Unlock()
	if !c.conn.Working() {
		c.close()
		return
	}
	select {
	case c.front.idle <- c:
	default:
		go c.front.work(c)
	}
}

// close closes a socket whose request was handled.
func (c *newcomer) close() {
	if c.take(false) {
		c.conn.Forget()
		epoll.Close(int(c.fd))
	}
}

// leaveListLocked takes a newcomer out of the list of those that wait for their request.
func (c *newcomer) leaveListLocked() {
	if c.place != nil {
		c.front.waiting.Remove(c.place)
		c.place = nil
	}
}
