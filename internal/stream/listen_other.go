//go:build !linux

package stream

import (
	"net"
	"syscall"
)

func controlListener(_, _ string, _ syscall.RawConn) error { return nil }

func setSocket(tcp *net.TCPConn) { _ = tcp.SetWriteBuffer(sendBuffer) }
