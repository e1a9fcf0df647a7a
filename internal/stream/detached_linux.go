//go:build linux && !portable

package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"ssegateway/internal/epoll"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
)

// detacher takes sockets over from net/http and watches their clients with one epoll set.
type detacher struct {
	set *epoll.Set

	open *atomic.Int64 // counts the sockets

	// mu guards what follows. It is taken under connections' locks.
	mu         sync.Mutex
	sockets    []*socket // by descriptor; nil where the descriptor is no socket of ours
	generation uint32
}

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
	return &detacher{set: set, open: open}, err
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
	if r, d := s.Left(); r != 0 {
		c.Abort(r, d) // the client left while the backend was asked: report it before a write fails
	}
	if !c.Open(s, head, g) {
		_ = unix.Close(fd)
	}
	return true
}

const watched = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET

func (s *socket) Start() gateway.Detail {
	s.d.add(s)
	if err := s.control(unix.EPOLL_CTL_ADD, watched); err != nil {
		s.d.remove(s)
		return gateway.OpenFailed
	}
	return 0
}

func (s *socket) control(op int, events uint32) error {
	return unix.EpollCtl(s.d.set.FD, op, int(s.fd), &unix.EpollEvent{Events: events, Fd: s.fd, Pad: int32(s.generation)}) //nolint:gosec // bits, not a number
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
func (s *socket) Left() (gateway.Reason, gateway.Detail) {
	var b [1]byte
	for {
		n, _, err := unix.Recvfrom(int(s.fd), b[:], unix.MSG_DONTWAIT)
		switch {
		case n > 0:
			return gateway.Error, gateway.UnexpectedData
		case err == nil:
			return gateway.ClientClosed, 0
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return 0, 0
		default:
			return readFault(err)
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
	_ = unix.Close(int(s.fd)) // also removes it from the epoll set
}

func (s *socket) Chunked() bool { return s.chunked }

func (d *detacher) add(s *socket) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.generation++
	s.generation = d.generation
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
	var owners []*socket
	for {
		events, err := d.set.Wait()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		owners = d.owners(events, owners[:0])
		for i, s := range owners {
			if s == nil {
				continue
			}
			e := events[i].Events
			s.conn.Ready(s, e&^unix.EPOLLOUT != 0, e&unix.EPOLLOUT != 0)
		}
		clear(owners)
	}
}

// owners appends the sockets of events, in order; nil for a socket that is closed.
func (d *detacher) owners(events []unix.EpollEvent, owners []*socket) []*socket {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range events {
		var owner *socket
		if int(e.Fd) < len(d.sockets) {
			if s := d.sockets[e.Fd]; s != nil && s.generation == uint32(e.Pad) { //nolint:gosec // bits, not a number
				owner = s
			}
		}
		owners = append(owners, owner)
	}
	return owners
}
