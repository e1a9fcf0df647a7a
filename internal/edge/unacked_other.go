//go:build !linux

package edge

import "net"

// Unacked is not known on this system.
func Unacked(net.Conn) int { return 0 }
