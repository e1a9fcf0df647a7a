package edge

import (
	"golang.org/x/sys/unix"
)

// waitForCaller takes the deadline for acknowledgements off a socket: that of a listener for
// streams is shorter than what a caller may take. The edge's deadlines and the kernel's probes
// hold.
func waitForCaller(tcp TCP) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 0) })
}
