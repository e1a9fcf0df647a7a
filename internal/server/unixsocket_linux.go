package server

import (
	"io/fs"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// limitSocket sets the most that the permissions of a socket will be when it is bound: there is no moment in
// which more callers may connect.
func limitSocket(c syscall.RawConn, mode fs.FileMode) error {
	var err error
	if e := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), uint32(mode.Perm())) }); e != nil {
		return e
	}
	return nameSetting("INTERNAL_SOCKET_MODE", err)
}

// isShutDown reports whether a socket that listens was shut down. accept does not say that of a Unix socket: a call that
// does not block finds nobody, for ever.
func isShutDown(l *net.UnixListener) (is bool) {
	raw, err := l.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}} //nolint:gosec // a descriptor
		n, err := unix.Poll(polled, 0)
		is = err == nil && n > 0 && polled[0].Revents&unix.POLLRDHUP != 0
	})
	return is
}
