package bench

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ssegateway/internal/epoll"
)

// poller is an epoll set with a timer, for one goroutine.
type poller struct {
	set         *epoll.Set
	timer, bell int
	due         int64 // when the timer expires; 0: it is not set
}

// The poller's own events carry these instead of an index.
const (
	atTimer = -1
	atBell  = -2
)

func newPoller() (p *poller, err error) {
	p = &poller{timer: -1, bell: -1}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.set, err = epoll.New(256); err != nil {
		return nil, err
	}
	// On CLOCK_MONOTONIC, like clock.
	if p.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("timerfd_create: %w", err)
	}
	if p.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return p, errors.Join(
		p.watch(unix.EPOLL_CTL_ADD, p.timer, atTimer, unix.EPOLLIN),
		p.watch(unix.EPOLL_CTL_ADD, p.bell, atBell, unix.EPOLLIN),
	)
}

// watch adds a descriptor to the set, or changes the events that it is watched for.
func (p *poller) watch(op, fd, index int, events uint32) error {
	return unix.EpollCtl(p.set.FD, op, fd, &unix.EpollEvent{Events: events, Fd: int32(index)})
}

// ignore removes a descriptor from the set.
func (p *poller) ignore(fd int) error { return unix.EpollCtl(p.set.FD, unix.EPOLL_CTL_DEL, fd, nil) }

// alarm makes wait return at that time of clock at the latest.
func (p *poller) alarm(at int64) error {
	if p.due != 0 && p.due <= at {
		return nil // waking up too early does no harm
	}
	p.due = at
	return unix.TimerfdSettime(p.timer, unix.TFD_TIMER_ABSTIME, &unix.ItimerSpec{Value: unix.NsecToTimespec(max(at, 1))}, nil)
}

// ring makes wait return. Any goroutine may call it.
func (p *poller) ring() {
	_, _ = unix.Write(p.bell, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // fails only if a wake-up is pending already
}

// wait returns the events that are ready: none after an alarm or a ring.
func (p *poller) wait() ([]unix.EpollEvent, error) {
	events, err := p.set.Wait()
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	ready := events[:0]
	var count [8]byte
	for _, e := range events {
		switch e.Fd {
		case atTimer:
			_, _ = unix.Read(p.timer, count[:]) // only to reset its readiness
			p.due = 0
		case atBell:
			_, _ = unix.Read(p.bell, count[:]) // as above
		default:
			ready = append(ready, e)
		}
	}
	return ready, nil
}

// close may be called only when ring can no longer be: the descriptor's number may be reused.
func (p *poller) close() {
	if p.set != nil {
		_ = p.set.Close()
	}
	for _, fd := range []int{p.timer, p.bell} {
		if fd >= 0 {
			unix.Close(fd) //nolint:errcheck // nothing is lost with it
		}
	}
}
