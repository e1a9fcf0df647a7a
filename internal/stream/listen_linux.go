package stream

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ssegateway/internal/gateway"
)

// controlListener sets what accepted sockets inherit, for no system call each.
func controlListener(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) { failed = setOptions(int(fd)) })
	if err != nil {
		return err
	}
	return failed
}

// setSocket sets the same of one socket.
func setSocket(tcp *net.TCPConn) { control(tcp, func(fd int) { _ = setOptions(fd) }) }

func setOptions(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer); err != nil {
		return err
	}
	return setUserTimeout(fd, gateway.StallDeadline)
}

// setUserTimeout bounds how long bytes may stay unacknowledged, which means a dead
// peer, or one that reads nothing. Without it, or with 0, the kernel retries for about
// 15 minutes.
func setUserTimeout(fd int, timeout time.Duration) error {
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(timeout.Milliseconds()))
}
