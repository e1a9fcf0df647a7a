//go:build unix

package harness

import "syscall"

// receiveBufferControl sets the size of the receive buffer before connect, so that the
// window is never larger.
func receiveBufferControl(size int) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var failed error
		if err := c.Control(func(fd uintptr) {
			failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, size)
		}); err != nil {
			return err
		}
		return failed
	}
}
