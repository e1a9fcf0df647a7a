package epoll

import (
	"errors"
	"fmt"
	"os"
	"runtime"
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
	polls  int                   // calls of poll by the last Wait: with one, it did not have to wait
	n      int                   // number of events that poll found
	errno  syscall.Errno
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
		s.polls++
		n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(unsafe.SliceData(s.events))), uintptr(len(s.events)), 0, 0, 0)
		if s.n, s.errno = int(n), errno; errno != 0 {
			s.n = 0
		}
		return s.n > 0 || errno != 0 && errno != unix.EINTR
	}
	return s, nil
}

// Wait returns the next events; they are valid until the next call. It fails with
// os.ErrDeadlineExceeded after the deadline. What is done about events uses system calls of which the scheduler is not
// told. So other goroutines have a turn before Wait if the last one returned at once.
func (s *Set) Wait() ([]unix.EpollEvent, error) {
	if s.polls == 1 {
		runtime.Gosched()
	}
	s.polls = 0
	if err := s.raw.Read(s.poll); err != nil {
		return nil, err
	}
	if s.errno != 0 {
		return nil, os.NewSyscallError("epoll_pwait", s.errno)
	}
	return s.events[:s.n], nil
}

// SetDeadline makes Wait fail from a time on, also a call that is under way.
func (s *Set) SetDeadline(t time.Time) { _ = s.file.SetReadDeadline(t) } // cannot fail: the file is in the netpoller

// Close closes the set. It must not be called during Wait.
func (s *Set) Close() error { return s.file.Close() }
