//go:build unix && !linux

package callback

import "golang.org/x/sys/unix"

// isQuiet reports whether a socket is open, and nothing has arrived.
func isQuiet(fd int) bool {
	var b [1]byte
	_, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return err == unix.EAGAIN
}
