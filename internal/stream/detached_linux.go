//go:build linux && !portable

package stream

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ssegateway/internal/epoll"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
)

// detacher has the sockets of streams and of newcomers, and watches their clients with one epoll set.
type detacher struct {
	set *epoll.Set

	open *atomic.Int64 // counts the sockets

	// mu guards what follows. It is taken under connections' locks.
	mu         sync.Mutex
	sockets    []*socket           // by descriptor; nil where the descriptor is no socket of ours
	newcomers  map[int32]*newcomer // sockets of Fronts, by descriptor
	generation uint32
	settled    chan struct{} // closed when there are no more newcomers; nil: nobody waits for that
}

// watcher is what is told of the events of a descriptor in the set: a socket, or a newcomer.
type watcher interface{ ready(events uint32) }

// socket is a [gateway.Stream] that owns its descriptor. The connection's lock guards the
// fields that change after construction. The descriptor is closed only under that lock, so
// that a holder of the lock that finds the stream in use cannot hit another connection's
// descriptor.
type socket struct {
	d          *detacher
	conn       *gateway.Conn
	fd         int32
	generation uint32 // returned with each event, to recognise events for an earlier owner of fd
	chunked    bool
	armed      bool // EPOLLOUT is asked for
}

func newDetacher(open *atomic.Int64) (*detacher, error) {
	set, err := epoll.New(256)
	return &detacher{set: set, open: open, newcomers: map[int32]*newcomer{}}, err
}

// detach gives the connection its stream, if nc is a plain TCP connection.
func (d *detacher) detach(nc net.Conn, chunked bool, head frame.Frame, c *gateway.Conn, g gateway.Grant) bool {
	tcp := tcpOf(nc)
	if _, ok := nc.(interface{ ConnectionState() tls.ConnectionState }); ok || tcp == nil {
		return false
	}
	fd, ok := epoll.Take(tcp)
	if !ok {
		return false
	}
	s := &socket{d: d, conn: c, fd: int32(fd), chunked: chunked} //nolint:gosec // a descriptor
	if !s.open(head, g) {
		epoll.Close(fd)
	}
	return true
}

// open makes the socket its connection's stream. It returns false if there is none: the descriptor is not closed then.
func (s *socket) open(head frame.Frame, g gateway.Grant) bool {
	if r, d := s.Left(); r != 0 {
		s.conn.Abort(r, d) // the client left while the backend was asked: report it before a write fails
	}
	return s.conn.Open(s, head, g)
}

const watched = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET

func (s *socket) Start() gateway.Detail {
	if s.generation != 0 { // the set has watched it since it was accepted
		if s.d.keep(s) {
			_ = s.control(unix.EPOLL_CTL_MOD, watched) // what was seen is reported again
		}
		return 0
	}
	s.d.add(s)
	if err := s.control(unix.EPOLL_CTL_ADD, watched); err != nil {
		s.d.remove(s)
		return gateway.OpenFailed
	}
	return 0
}

func (s *socket) control(op int, events uint32) error {
	return s.d.control(op, s.fd, s.generation, events)
}

// control changes what the set watches of a descriptor.
func (d *detacher) control(op int, fd int32, generation, events uint32) error {
	return unix.EpollCtl(d.set.FD, op, int(fd), &unix.EpollEvent{Events: events, Fd: fd, Pad: int32(generation)}) //nolint:gosec // bits, not a number
}

// Write sends with one system call.
func (s *socket) Write(p []byte) (int, gateway.Detail) {
	if len(p) == 0 {
		return 0, 0
	}
	n, errno := epoll.Send(int(s.fd), p)
	switch errno {
	case 0:
		if n == len(p) {
			return len(p), 0
		}
	case unix.EAGAIN:
		n = 0
	default:
		return 0, writeFault(errno)
	}
	// When a socket is full for the first time, it is also watched for EPOLLOUT. EPOLL_CTL_MOD
	// checks the state again, so room made meanwhile is not missed.
	if !s.armed {
		if err := s.control(unix.EPOLL_CTL_MOD, watched|unix.EPOLLOUT); err != nil {
			return 0, gateway.WriteFailed
		}
		s.armed = true
	}
	return n, 0
}

// Left reads from the socket. A client must not send anything on a stream: a byte is a fault.
func (s *socket) Left() (gateway.Reason, gateway.Detail) { return left(s.fd, false) }

// left receives a byte, or peeks at it. It returns how the client has left; zero if it has not.
func left(fd int32, peek bool) (gateway.Reason, gateway.Detail) {
	var b [1]byte
	for {
		var n int
		var errno syscall.Errno
		if peek {
			n, errno = epoll.Peek(int(fd), b[:])
		} else {
			n, errno = epoll.Receive(int(fd), b[:])
		}
		switch {
		case errno == unix.EINTR:
		case errno == unix.EAGAIN:
			return 0, 0
		case errno != 0:
			return readFault(errno)
		case n > 0:
			return gateway.Error, gateway.UnexpectedData
		default:
			return gateway.ClientClosed, 0
		}
	}
}

func (s *socket) Look(last uint64) (progress uint64, owing bool) { return look(int(s.fd), last) }

func (s *socket) Close(abort bool) {
	s.d.remove(s)
	if abort {
		// RST instead of FIN, and the kernel drops what it still holds for a client that does not read.
		_ = unix.SetsockoptLinger(int(s.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	} else {
		_ = setUserTimeout(int(s.fd), lingerTime) // fails only for what is no TCP socket
	}
	epoll.Close(int(s.fd)) // also removes it from the epoll set
}

func (s *socket) Chunked() bool { return s.chunked }

func (d *detacher) add(s *socket) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s.generation = d.nextLocked()
	d.putLocked(s)
}

// keep is add for the socket of a newcomer, which the set watches already. It reports whether something was seen of its
// client since the request. From now on the stream's connection is told of that.
func (d *detacher) keep(s *socket) (seen bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.newcomers[s.fd]
	d.removeLocked(c)
	d.putLocked(s)
	return c.seen
}

// addLocked adds a newcomer, which the set is about to watch.
func (d *detacher) addLocked(c *newcomer) {
	c.generation = d.nextLocked()
	d.newcomers[c.fd] = c
}

// removeLocked removes a newcomer.
func (d *detacher) removeLocked(c *newcomer) {
	c.gone = true
	c.leaveListLocked()
	if c.generation == 0 {
		return
	}
	delete(d.newcomers, c.fd)
	if len(d.newcomers) == 0 && d.settled != nil {
		close(d.settled)
		d.settled = nil
	}
}

// nextLocked returns a new generation, which is never 0.
func (d *detacher) nextLocked() uint32 {
	if d.generation++; d.generation == 0 {
		d.generation++
	}
	return d.generation
}

func (d *detacher) putLocked(s *socket) {
	for int(s.fd) >= len(d.sockets) {
		d.sockets = append(d.sockets, nil)
	}
	d.sockets[s.fd] = s
	d.open.Add(1)
}

func (d *detacher) remove(s *socket) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sockets[s.fd] = nil
	d.open.Add(-1)
}

// run dispatches events to connections until ctx ends.
func (d *detacher) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { d.set.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var owners []watcher
	for {
		events, err := d.set.Wait()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		owners = d.owners(events, owners[:0])
		for i, w := range owners {
			if w != nil {
				w.ready(events[i].Events)
			}
		}
		clear(owners)
	}
}

// ready implements [watcher].
func (s *socket) ready(events uint32) {
	s.conn.Ready(s, events&^unix.EPOLLOUT != 0, events&unix.EPOLLOUT != 0)
}

// owners appends the owners of events, in order; nil for one that has closed its descriptor.
func (d *detacher) owners(events []unix.EpollEvent, owners []watcher) []watcher {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range events {
		owners = append(owners, d.ownerLocked(e.Fd, uint32(e.Pad))) //nolint:gosec // bits, not a number
	}
	return owners
}

func (d *detacher) ownerLocked(fd int32, generation uint32) watcher {
	if int(fd) < len(d.sockets) {
		if s := d.sockets[fd]; s != nil && s.generation == generation {
			return s
		}
	}
	if c := d.newcomers[fd]; c != nil && c.generation == generation {
		c.seen = c.handled
		return c
	}
	return nil
}
