//go:build !linux

package stream

import "net"

// unacked is not known on this system.
func unacked(*net.TCPConn) int { return 0 }

// setPatient has nothing to set.
func setPatient(*net.TCPConn, bool) {}
