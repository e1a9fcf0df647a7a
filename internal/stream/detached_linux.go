//go:build linux && !portable

package stream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
)

// detacher takes sockets over from net/http and watches their clients by one
// epoll set. The set is itself in the set of Go's netpoller, so that waiting for
// it blocks a goroutine but no thread.
type detacher struct {
	set *os.File
	raw syscall.RawConn
	fd  int

	open *atomic.Int64 // counts the sockets

	// mu guards what follows. It is taken under connections' locks.
	mu         sync.Mutex
	sockets    []*socket // by descriptor; nil where the descriptor is no socket of ours
	generation uint32
}

// socket is a [gateway.Stream] over a descriptor that is all its own. What is not
// fixed after construction is guarded by the connection's lock; in particular
// the descriptor is closed only under it, so that who holds the lock and finds
// the stream in use can never hit another connection's descriptor.
type socket struct {
	d          *detacher
	conn       *gateway.Conn
	fd         int32
	generation uint32 // comes back with each event: an event for an earlier owner of fd is told by it
	chunked    bool
	armed      bool // EPOLLOUT is asked for
	patient    bool // the kernel leaves it to the gateway to notice a stall
}

func newDetacher(open *atomic.Int64) (*detacher, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // else os.File would not use the netpoller
		return nil, fmt.Errorf("epoll: %w", err)
	}
	d := &detacher{set: os.NewFile(uintptr(fd), "epoll"), fd: fd, open: open}
	if d.raw, err = d.set.SyscallConn(); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return d, nil
}

// detach gives the connection its stream, if nc is a plain TCP connection.
func (d *detacher) detach(nc net.Conn, chunked bool, head frame.Frame, c *gateway.Conn, g gateway.Grant) bool {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	fd := -1
	// File() would make the socket blocking, for both descriptors.
	if raw.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) }) != nil || err != nil {
		return false
	}
	_ = nc.Close() // takes it out of the netpoller; the socket lives on
	s := &socket{d: d, conn: c, fd: int32(fd), chunked: chunked}
	if r, d := s.Left(); r != 0 {
		c.Leave(r, d) // while the backend was asked; before a write fails for it
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
	return unix.EpollCtl(s.d.fd, op, int(s.fd), &unix.EpollEvent{Events: events, Fd: s.fd, Pad: int32(s.generation)}) //nolint:gosec // bits, not a number
}

// Write sends with one system call. RawSyscall6 does not tell the scheduler,
// which has nothing to know: the call never waits.
func (s *socket) Write(p []byte) (int, gateway.Detail) {
	if len(p) == 0 {
		return 0, 0
	}
	n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), //nolint:gosec // the bytes to send
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	switch errno {
	case 0:
		if int(n) == len(p) {
			if s.patient && s.Unacked() <= len(p) {
				s.setPatient(false)
			}
			return len(p), 0
		}
	case unix.EAGAIN:
		n = 0
	case unix.ETIMEDOUT:
		return 0, gateway.Stalled
	default:
		return 0, gateway.WriteFailed
	}
	s.setPatient(true)
	// The first time that a socket is full it is also watched for room. Changing
	// the watch looks at the state anew, so that no room made meanwhile is missed.
	if !s.armed {
		if err := s.control(unix.EPOLL_CTL_MOD, watched|unix.EPOLLOUT); err != nil {
			return 0, gateway.WriteFailed
		}
		s.armed = true
	}
	return int(n), 0
}

// setPatient is to be on from when the socket is full until the client has taken
// everything, and while the kernel gets the rest of a closed stream across.
func (s *socket) setPatient(on bool) {
	if s.patient != on {
		s.patient = on
		_ = setUserTimeout(int(s.fd), on) // fails only for what is no TCP socket
	}
}

// Left reads: a client of a stream has nothing to say, so a byte is a fault.
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

func (s *socket) Unacked() int {
	n, err := unix.IoctlGetInt(int(s.fd), unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}

func (s *socket) Close(abort bool) {
	s.d.remove(s)
	if abort {
		// RST instead of FIN, and the kernel drops what it still holds for a client that does not read.
		_ = unix.SetsockoptLinger(int(s.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	} else {
		s.setPatient(true)
	}
	_ = unix.Close(int(s.fd)) // takes it out of the epoll set as well
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

// run hands events to connections until ctx ends.
func (d *detacher) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = d.set.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	events := make([]unix.EpollEvent, 256)
	owners := make([]*socket, len(events))
	var n int
	var failed error
	wait := func(set uintptr) bool {
		n, failed = unix.EpollWait(int(set), events, 0)
		return n > 0 || failed != nil && !errors.Is(failed, unix.EINTR)
	}
	for {
		if err := d.raw.Read(wait); err != nil {
			return ctx.Err()
		}
		if failed != nil {
			return fmt.Errorf("epoll_wait: %w", failed)
		}
		d.owners(events[:n], owners)
		for i, s := range owners[:n] {
			if s == nil {
				continue
			}
			e := events[i].Events
			s.conn.Ready(s, e&^unix.EPOLLOUT != 0, e&unix.EPOLLOUT != 0)
			owners[i] = nil
		}
	}
}

// owners looks up whom events are for.
func (d *detacher) owners(events []unix.EpollEvent, owners []*socket) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, e := range events {
		owners[i] = nil
		if int(e.Fd) >= len(d.sockets) {
			continue
		}
		if s := d.sockets[e.Fd]; s != nil && s.generation == uint32(e.Pad) { //nolint:gosec // bits, not a number
			owners[i] = s
		}
	}
}
