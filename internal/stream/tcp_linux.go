package stream

import (
	"net"
	"time"

	"golang.org/x/sys/unix"

	"ssegateway/internal/gateway"
)

// look says how many bytes the peer has acknowledged, plus one, and whether any that
// were written are not.
//
// The kernel's own deadline (see setUserTimeout) is right for a peer that acknowledges
// nothing at all, but with one that is slow it counts from the first stall, even where
// the peer has taken bytes since, if its window is small. So who looks at a peer, and
// finds that it has taken some since the last time, has to notice a stall itself, and
// the kernel is made to wait until nothing is owing any more.
func look(fd int, last uint64) (progress uint64, owing bool) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return last, false // no TCP socket, or one that is gone, which others notice
	}
	progress, owing = info.Bytes_acked+1, info.Unacked > 0 || info.Notsent_bytes > 0
	switch {
	case last == 0:
	case !owing:
		_ = setUserTimeout(fd, gateway.StallDeadline)
	case progress > last:
		_ = setUserTimeout(fd, 0)
	}
	return progress, owing
}

// lookTCP is look for a connection; ok says that this system knows.
func lookTCP(tcp *net.TCPConn, last uint64) (progress uint64, owing, ok bool) {
	progress = last
	control(tcp, func(fd int) { progress, owing = look(fd, last) })
	return progress, owing, true
}

// isOver says whether the connection has ended altogether: not by a FIN of the peer's alone.
func isOver(tcp *net.TCPConn) bool {
	const tcpClose = 7 // of enum tcp_state
	over := false
	control(tcp, func(fd int) {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		over = err == nil && info.State == tcpClose
	})
	return over
}

// lingerTime is how long the kernel may try to get the rest of a closed stream across.
const lingerTime = time.Minute

// linger is for a connection that is about to be closed.
func linger(tcp *net.TCPConn) {
	control(tcp, func(fd int) { _ = setUserTimeout(fd, lingerTime) })
}

func control(tcp *net.TCPConn, f func(fd int)) {
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}
