package stream

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ssegateway/internal/edge"
	"ssegateway/internal/gateway"
)

// controlListener sets options that accepted sockets inherit, which saves system calls.
func controlListener(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) { failed = setOptions(int(fd)) })
	if err != nil {
		return err
	}
	return failed
}

// setSocket sets the same options of one socket.
func setSocket(tcp edge.TCP) { control(tcp, func(fd int) { _ = setOptions(fd) }) }

func setOptions(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer); err != nil {
		return err
	}
	return setUserTimeout(fd, gateway.StallDeadline)
}

// setUserTimeout bounds how long bytes may stay unacknowledged, which means a dead
// peer, or one that does not read. With 0, the default, the kernel retries for about 15
// minutes.
func setUserTimeout(fd int, timeout time.Duration) error {
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(timeout.Milliseconds()))
}
