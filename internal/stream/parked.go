package stream

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"

	"ssegateway/internal/gateway"
)

// parked is a [gateway.Stream] over any connection, with a goroutine parked in a
// read, which notices that the client leaves, and one that writes.
type parked struct {
	nc      net.Conn
	conn    *gateway.Conn
	chunked bool
	open    *atomic.Int64 // counts it
	wake    chan struct{} // has a value when there is something to write
	left    chan struct{} // closed when the read is over, and the gateway knows why
	done    chan struct{} // closed when the stream is
	patient atomic.Bool   // the kernel leaves it to the gateway to notice a stall
}

func newParked(nc net.Conn, chunked bool, c *gateway.Conn, open *atomic.Int64) *parked {
	s := &parked{nc: nc, conn: c, chunked: chunked, open: open, wake: make(chan struct{}, 1), left: make(chan struct{}), done: make(chan struct{})}
	if tcp := s.tcp(); tcp != nil {
		_ = tcp.SetWriteBuffer(sendBuffer) // where the listener could not
	}
	return s
}

func (s *parked) Start() gateway.Detail {
	s.open.Add(1)
	go s.read()
	go s.write()
	return 0
}

func (s *parked) read() {
	defer close(s.left)
	n, err := s.nc.Read(make([]byte, 1))
	if n > 0 {
		s.conn.Leave(gateway.Error, gateway.UnexpectedData)
		return
	}
	s.conn.Leave(readFault(err))
}

// readFault is what a failed read says about the client.
func readFault(err error) (gateway.Reason, gateway.Detail) {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return gateway.ClientClosed, 0
	case errors.Is(err, syscall.ETIMEDOUT): // TCP_USER_TIMEOUT
		return gateway.Error, gateway.Stalled
	default:
		return gateway.Error, gateway.ConnectionLost
	}
}

func (s *parked) write() {
	for {
		select {
		case <-s.done:
			return
		case <-s.wake:
		}
		if !s.conn.Pump(s, s.writeBytes) {
			return
		}
	}
}

func (s *parked) writeBytes(p []byte) gateway.Detail {
	// No deadline: the gateway notices a stalled client, and Close ends this write.
	if tcp := s.tcp(); tcp != nil {
		s.setPatient(tcp, unacked(tcp) > 0)
	}
	_, err := s.nc.Write(p)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, syscall.ETIMEDOUT):
		return gateway.Stalled
	case errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET):
		// The client has left before this write, and the read ends for the same
		// reason: it is to say so first.
		<-s.left
	}
	return gateway.WriteFailed
}

// setPatient is to be on while a write may have to wait: where not even what was
// written before has been taken.
func (s *parked) setPatient(tcp *net.TCPConn, on bool) {
	if s.patient.Swap(on) != on {
		setPatient(tcp, on)
	}
}

func (s *parked) Write([]byte) (int, gateway.Detail) {
	wake(s.wake)
	return 0, 0
}

// wake tells a writer that there is something to write; once is enough.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (s *parked) Left() (gateway.Reason, gateway.Detail) { return 0, 0 }

func (s *parked) Unacked() int {
	if tcp := s.tcp(); tcp != nil {
		return unacked(tcp)
	}
	return 0
}

func (s *parked) tcp() *net.TCPConn {
	nc := s.nc
	for {
		wrapped, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			tcp, _ := nc.(*net.TCPConn)
			return tcp
		}
		nc = wrapped.NetConn()
	}
}

func (s *parked) Close(abort bool) {
	close(s.done)
	s.open.Add(-1)
	if tcp := s.tcp(); tcp != nil && !abort {
		s.setPatient(tcp, true) // for the rest that the kernel has to get across
	} else if tcp != nil {
		_ = tcp.SetLinger(0)
		_ = tcp.Close() // first: TLS would say goodbye to a client that does not listen
	}
	go func() { _ = s.nc.Close() }() // TLS's goodbye may block
}

func (s *parked) Chunked() bool { return s.chunked }
