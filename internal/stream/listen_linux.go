package stream

import (
	"syscall"

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
		failed = setUserTimeout(s, false)
	})
	if err != nil {
		return err
	}
	return failed
}

// setUserTimeout bounds how long bytes may stay unacknowledged, which means a dead
// peer, or one that reads nothing; without it the kernel retries for about 15 minutes.
//
// patient is for a stream with a queue, where the gateway watches for progress itself:
// the kernel would count the 10 s from a client's first stall, even where the client
// has taken bytes since, if its window is small.
func setUserTimeout(fd int, patient bool) error {
	timeout := gateway.StallDeadline
	if patient {
		timeout *= 6
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(timeout.Milliseconds()))
}
