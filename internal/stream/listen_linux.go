package stream

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ssegateway/internal/gateway"
)

// controlListener sets what accepted sockets inherit, for no system call each.
func controlListener(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		s := int(fd)
		if failed = unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer); failed != nil {
			return
		}
		failed = setUserTimeout(s, gateway.StallDeadline)
	})
	if err != nil {
		return err
	}
	return failed
}

// setUserTimeout bounds how long bytes may stay unacknowledged, which means a dead
// peer, or one that reads nothing. Without it, or with 0, the kernel retries for about
// 15 minutes.
func setUserTimeout(fd int, timeout time.Duration) error {
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(timeout.Milliseconds()))
}
