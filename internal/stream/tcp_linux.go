package stream

import (
	"net"

	"golang.org/x/sys/unix"
)

// unacked is how many bytes the kernel holds that the client did not acknowledge yet.
func unacked(tcp *net.TCPConn) int {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return n
}

// setPatient sets what setUserTimeout describes.
func setPatient(tcp *net.TCPConn, on bool) {
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = setUserTimeout(int(fd), on) })
	}
}
