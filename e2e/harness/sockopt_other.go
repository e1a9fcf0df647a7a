//go:build !unix

package harness

import "syscall"

// receiveBufferControl leaves the receive buffer at the system's size.
func receiveBufferControl(int) func(network, address string, c syscall.RawConn) error { return nil }
