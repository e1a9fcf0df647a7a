package edge

import (
	"net"

	"golang.org/x/sys/unix"
)

// Unacked returns how many bytes the kernel holds that the peer of a TCP connection did not
// acknowledge yet.
func Unacked(nc net.Conn) int {
	tcp, ok := nc.(TCP)
	if !ok {
		return 0
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return n
}
