package epoll

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Set is an epoll set that is itself in the set of Go's netpoller, so that waiting for it
// blocks a goroutine but no thread. (A thread that sits in epoll_wait has its processor taken
// away by the runtime each time, which costs more than the events.) One goroutine waits; the
// other methods may be called by any.
type Set struct {
	FD int // for epoll_ctl

	file   *os.File
	raw    syscall.RawConn
	events []unix.EpollEvent
	poll   func(fd uintptr) bool // made once
	n      int                   // number of events that poll found
	err    error
}

// New makes a set. Wait returns at most the given number of events at a time.
func New(events int) (*Set, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // else os.File would not use the netpoller
		return nil, errors.Join(fmt.Errorf("epoll: %w", err), unix.Close(fd))
	}
	s := &Set{FD: fd, file: os.NewFile(uintptr(fd), "epoll"), events: make([]unix.EpollEvent, events)}
	if s.raw, err = s.file.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("epoll: %w", err), s.file.Close())
	}
	s.poll = func(fd uintptr) bool {
		s.n, s.err = unix.EpollWait(int(fd), s.events, 0)
		return s.n > 0 || s.err != nil && !errors.Is(s.err, unix.EINTR)
	}
	return s, nil
}

// Wait returns the next events; they are valid until the next call. It fails with
// os.ErrDeadlineExceeded after the deadline.
func (s *Set) Wait() ([]unix.EpollEvent, error) {
	if err := s.raw.Read(s.poll); err != nil {
		return nil, err
	}
	if s.err != nil {
		return nil, fmt.Errorf("epoll_wait: %w", s.err)
	}
	return s.events[:s.n], nil
}

// SetDeadline makes Wait fail from a time on, also a call that is under way.
func (s *Set) SetDeadline(t time.Time) { _ = s.file.SetReadDeadline(t) } // cannot fail: the file is in the netpoller

// Close closes the set. It must not be called during Wait.
func (s *Set) Close() error { return s.file.Close() }

// Take returns a descriptor of its own for the socket of a connection, and closes the
// connection, which removes it from the netpoller; the socket stays open. If the connection
// is not a plain socket, Take returns false and leaves it alone.
func Take(nc net.Conn) (fd int, ok bool) {
	c, ok := nc.(syscall.Conn)
	if !ok {
		return -1, false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, false
	}
	// File() would make the socket blocking, for both descriptors.
	if raw.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) }) != nil || err != nil {
		return -1, false
	}
	_ = nc.Close()
	return fd, true
}

// Send sends as much of p as the socket takes now. It uses RawSyscall6, which does not notify
// the scheduler, because the call never blocks. p must not be empty.
func Send(fd int, p []byte) (n int, errno syscall.Errno) {
	r, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	return int(r), errno
}

// Receive reads what has arrived, without blocking, as Send does.
func Receive(fd int, p []byte) (n int, errno syscall.Errno) {
	r, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
		unix.MSG_DONTWAIT, 0, 0)
	return int(r), errno
}
