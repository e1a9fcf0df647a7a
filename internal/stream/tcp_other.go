//go:build !linux

package stream

import "ssegateway/internal/edge"

// lookTCP does not know on this system.
func lookTCP(edge.TCP, uint64) (progress uint64, owing, ok bool) { return 0, false, false }

// isOver does not know on this system.
func isOver(edge.TCP) bool { return false }

// linger has nothing to set.
func linger(edge.TCP) {}
