package stream

import "net"

// sendBuffer is SO_SNDBUF in bytes (the kernel doubles it). With Linux's default a client
// that stopped reading holds about 4 MB.
const sendBuffer = 32 << 10

// resetSocket makes a socket what ListenConfig asked for, where the edge has changed that
// for a caller of the internal API. nil is none.
func resetSocket(tcp *net.TCPConn) {
	if tcp != nil {
		_ = tcp.SetKeepAlive(false)
		setSocket(tcp)
	}
}

// ListenConfig returns the configuration for a listener for streams.
func ListenConfig() net.ListenConfig {
	lc := net.ListenConfig{
		Control: controlListener,
		// Heartbeats find dead peers; keep-alive probes beside them would only cost.
		KeepAlive: -1,
	}
	lc.SetMultipathTCP(false) // it would hide TCP_USER_TIMEOUT from the listener's sockets
	return lc
}
