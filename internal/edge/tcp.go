package edge

import (
	"net"
	"syscall"
)

// TCP is a TCP connection without TLS: a [net.TCPConn], or one that was made of a socket.
type TCP interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
	SetKeepAlive(on bool) error
	SetKeepAliveConfig(config net.KeepAliveConfig) error
	SetLinger(seconds int) error
	SetWriteBuffer(bytes int) error
}
