package stream

import (
	"time"

	"golang.org/x/sys/unix"

	"ssegateway/internal/edge"
	"ssegateway/internal/gateway"
)

// look returns how many bytes the peer has acknowledged, plus one, and whether any written
// bytes are unacknowledged (owing).
//
// The kernel's own deadline (see setUserTimeout) fits a peer that acknowledges nothing
// at all. For a slow peer with a small window it counts from the first stall, even if the
// peer has taken bytes since. So once look sees progress, it disables the kernel's deadline
// until nothing is owing, and its caller has to detect a stall.
func look(fd int, last uint64) (progress uint64, owing bool) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return last, false // not TCP, or closed, which is noticed elsewhere
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

// lookTCP is look for a connection; ok is false if the system does not support it.
func lookTCP(tcp edge.TCP, last uint64) (progress uint64, owing, ok bool) {
	progress = last
	control(tcp, func(fd int) { progress, owing = look(fd, last) })
	return progress, owing, true
}

// isOver reports whether the connection is closed in both directions, not only by a FIN of
// the peer.
func isOver(tcp edge.TCP) bool {
	const tcpClose = 7 // of enum tcp_state
	over := false
	control(tcp, func(fd int) {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		over = err == nil && info.State == tcpClose
	})
	return over
}

// lingerTime is how long the kernel may try to deliver the rest of a closed stream.
const lingerTime = time.Minute

// linger is for a connection that is about to be closed.
func linger(tcp edge.TCP) {
	control(tcp, func(fd int) { _ = setUserTimeout(fd, lingerTime) })
}

func control(tcp edge.TCP, f func(fd int)) {
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}
