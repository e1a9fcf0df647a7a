package bench

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// poller is an epoll set with a timer, for one goroutine. The set itself is waited for
// by Go's network poller: a thread that sits in epoll_wait would have its processor
// taken away by the runtime each time, which costs more than the events.
type poller struct {
	set         *os.File
	raw         syscall.RawConn
	fd          int
	timer, bell int
	due         int64 // what the timer is set to; 0: nothing

	events []unix.EpollEvent
	poll   func(fd uintptr) bool // made once
	n      int                   // events that poll found
	err    error
}

// What events of its own carry instead of an index.
const (
	atTimer = -1
	atBell  = -2
)

func newPoller() (p *poller, err error) {
	p = &poller{events: make([]unix.EpollEvent, 256), fd: -1, timer: -1, bell: -1}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	if err = unix.SetNonblock(p.fd, true); err != nil { // else os.File would not use the network poller
		return nil, fmt.Errorf("epoll: %w", err)
	}
	p.set = os.NewFile(uintptr(p.fd), "epoll")
	if p.raw, err = p.set.SyscallConn(); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	// On CLOCK_MONOTONIC, as clock is.
	if p.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("timerfd_create: %w", err)
	}
	if p.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	p.poll = func(fd uintptr) bool {
		p.n, p.err = unix.EpollWait(int(fd), p.events, 0)
		return p.n > 0 || p.err != nil && !errors.Is(p.err, unix.EINTR)
	}
	return p, errors.Join(
		p.watch(unix.EPOLL_CTL_ADD, p.timer, atTimer, unix.EPOLLIN),
		p.watch(unix.EPOLL_CTL_ADD, p.bell, atBell, unix.EPOLLIN),
	)
}

// watch puts a descriptor into the set, or changes what it is watched for.
func (p *poller) watch(op, fd, index int, events uint32) error {
	return unix.EpollCtl(p.fd, op, fd, &unix.EpollEvent{Events: events, Fd: int32(index)})
}

// ignore takes it out.
func (p *poller) ignore(fd int) error { return unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, fd, nil) }

// alarm has wait return at that time of clock at the latest.
func (p *poller) alarm(at int64) error {
	if p.due != 0 && p.due <= at {
		return nil // too early does no harm
	}
	p.due = at
	return unix.TimerfdSettime(p.timer, unix.TFD_TIMER_ABSTIME, &unix.ItimerSpec{Value: unix.NsecToTimespec(max(at, 1))}, nil)
}

// ring has wait return; any goroutine may call it.
func (p *poller) ring() {
	_, _ = unix.Write(p.bell, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // fails only where it rings already
}

// wait returns what is ready. That may be nothing, after an alarm or a ring.
func (p *poller) wait() ([]unix.EpollEvent, error) {
	if err := p.raw.Read(p.poll); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if p.err != nil {
		return nil, fmt.Errorf("epoll_wait: %w", p.err)
	}
	ready := p.events[:0]
	var count [8]byte
	for _, e := range p.events[:p.n] {
		switch e.Fd {
		case atTimer:
			_, _ = unix.Read(p.timer, count[:]) // only so that it is not ready any more
			p.due = 0
		case atBell:
			_, _ = unix.Read(p.bell, count[:]) // as above
		default:
			ready = append(ready, e)
		}
	}
	return ready, nil
}

// close is for when nobody can ring any more: its number may then be another descriptor's.
func (p *poller) close() {
	switch {
	case p.set != nil:
		p.set.Close()
	case p.fd >= 0:
		unix.Close(p.fd) //nolint:errcheck // nothing is lost with it
	}
	for _, fd := range []int{p.timer, p.bell} {
		if fd >= 0 {
			unix.Close(fd) //nolint:errcheck // as above
		}
	}
}
