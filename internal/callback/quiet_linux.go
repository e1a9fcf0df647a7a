package callback

import (
	"golang.org/x/sys/unix"

	"ssegateway/internal/epoll"
)

// isQuiet reports whether a socket is open, and nothing has arrived.
func isQuiet(fd int) bool {
	var b [1]byte
	_, errno := epoll.Peek(fd, b[:])
	return errno == unix.EAGAIN
}
