package stream

import (
	"errors"
	"net"

	"ssegateway/internal/edge"
)

// sendBuffer is SO_SNDBUF in bytes (the kernel doubles it). With Linux's default a client
// that stopped reading holds about 4 MB.
const sendBuffer = 32 << 10

// resetSocket makes a socket what ListenConfig asked for, where the edge has changed that
// for a caller of the internal API. nil is none.
func resetSocket(tcp edge.TCP) {
	if tcp != nil {
		_ = tcp.SetKeepAlive(false)
		setSocket(tcp)
	}
}

// Adopt makes a listener for streams of a socket that another process has opened.
func Adopt(l *net.TCPListener) (net.Listener, error) {
	raw, err := l.SyscallConn()
	if err == nil {
		err = controlListener("", "", raw)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return adopted{l}, nil
}

// adopted turns off the keep-alive probes that package net turns on for each connection, as
// ListenConfig does.
type adopted struct{ *net.TCPListener }

// Accept implements net.Listener.
func (l adopted) Accept() (net.Conn, error) {
	tcp, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	_ = tcp.SetKeepAlive(false)
	return tcp, nil
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
