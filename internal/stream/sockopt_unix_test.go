//go:build unix

package stream_test

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func setReceiveBuffer(raw syscall.RawConn, size int) error {
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, size) }); err != nil {
		return err
	}
	return failed
}
