//go:build unix

package stream_test

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// setReceiveBuffer makes the buffer small. So are the segments, as on a network: with
// those of the loopback interface a client would take half its buffer at a time.
func setReceiveBuffer(raw syscall.RawConn, size int) error {
	var failed error
	if err := raw.Control(func(fd uintptr) {
		if failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, size); failed == nil {
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 536)
		}
	}); err != nil {
		return err
	}
	return failed
}
