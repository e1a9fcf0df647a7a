//go:build !linux

package stream

import "net"

// lookTCP does not know on this system.
func lookTCP(*net.TCPConn, uint64) (progress uint64, owing, ok bool) { return 0, false, false }

// isOver does not know on this system.
func isOver(*net.TCPConn) bool { return false }

// linger has nothing to set.
func linger(*net.TCPConn) {}
