//go:build !unix

package harness

import "syscall"

// receiveBufferControl leaves the receive buffer as the system chose it.
func receiveBufferControl(int) func(network, address string, c syscall.RawConn) error { return nil }
