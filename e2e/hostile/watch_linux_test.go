package hostile

import (
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// watch returns true at the deadline of the connection, and false if the peer closes it
// before. It reads nothing from it.
func watch(tcp *net.TCPConn) bool {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	closed := false
	err = raw.Read(func(fd uintptr) bool {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		const closeWait, closeState = 8, 7
		closed = err != nil || info.State == closeWait || info.State == closeState
		return closed
	})
	return !closed && (err == nil || errors.Is(err, os.ErrDeadlineExceeded))
}

// smallBuffer is a Control function for a net.Dialer that makes the receive buffer as small as possible.
func smallBuffer(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1) })
	return errors.Join(err, failed)
}
