//go:build !linux

package stream

import (
	"syscall"

	"ssegateway/internal/edge"
)

func controlListener(_, _ string, _ syscall.RawConn) error { return nil }

func setSocket(tcp edge.TCP) { _ = tcp.SetWriteBuffer(sendBuffer) }
