package stream

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"ssegateway/internal/edge"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
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
	taken   atomic.Uint64 // bytes written

	writing sync.Mutex // held during a write
	failure error      // of the last write; guarded by writing
}

func newParked(nc net.Conn, chunked bool, c *gateway.Conn, open *atomic.Int64) *parked {
	s := &parked{nc: nc, conn: c, chunked: chunked, open: open, wake: make(chan struct{}, 1), left: make(chan struct{}), done: make(chan struct{})}
	if tcp := tcpOf(nc); tcp != nil {
		_ = tcp.SetWriteBuffer(sendBuffer) // on systems where the listener cannot set it
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
	defer guard.Recover()
	defer close(s.left)
	n, err := s.nc.Read(make([]byte, 1))
	if n > 0 {
		s.conn.Abort(gateway.Error, gateway.UnexpectedData)
		return
	}
	if tcp := tcpOf(s.nc); tcp != nil && isEOF(err) && isOver(tcp) {
		// The system returns a socket's error only once: a write, which may still be under
		// way, got it.
		s.writing.Lock()
		if s.failure != nil {
			err = s.failure
		}
		s.writing.Unlock()
	}
	s.conn.Abort(readFault(err))
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// readFault returns the reason that a failed read stands for.
func readFault(err error) (gateway.Reason, gateway.Detail) {
	switch {
	case isEOF(err), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return gateway.ClientClosed, 0
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, os.ErrDeadlineExceeded): // TCP_USER_TIMEOUT, or a write's
		return gateway.Error, gateway.Stalled
	default:
		return gateway.Error, gateway.ConnectionLost
	}
}

// writeFault returns the detail that a failed write stands for.
func writeFault(err error) gateway.Detail {
	switch {
	case errors.Is(err, syscall.ETIMEDOUT): // TCP_USER_TIMEOUT
		return gateway.Stalled
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return gateway.ConnectionLost
	default:
		return gateway.WriteFailed
	}
}

func (s *parked) write() {
	defer guard.Recover()
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
	s.writing.Lock()
	n, err := s.nc.Write(p)
	s.failure = err
	s.writing.Unlock()
	s.taken.Add(uint64(n)) //nolint:gosec // not negative
	switch {
	case err == nil:
		return 0
	case errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET):
		// The client left before this write. The read fails for the same reason, and
		// must report it first.
		<-s.left
	}
	return writeFault(err)
}

func (s *parked) Write([]byte) (int, gateway.Detail) {
	wake(s.wake)
	return 0, 0
}

// wake notifies a writer that there is something to write. Several calls may count as one.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (s *parked) Left() (gateway.Reason, gateway.Detail) { return 0, 0 }

// Look sees on some systems only finished writes as progress.
func (s *parked) Look(last uint64) (progress uint64, owing bool) {
	if tcp := tcpOf(s.nc); tcp != nil {
		if progress, owing, ok := lookTCP(tcp, last); ok {
			return progress, owing
		}
	}
	return 1 + s.taken.Load(), false
}

// tcpOf returns the TCP connection that nc is or is on; nil if there is none.
func tcpOf(nc net.Conn) edge.TCP {
	for {
		if tcp, ok := nc.(edge.TCP); ok {
			return tcp
		}
		inner, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		nc = inner.NetConn()
	}
}

func (s *parked) Close(abort bool) {
	close(s.done)
	s.open.Add(-1)
	if tcp := tcpOf(s.nc); tcp != nil && !abort {
		linger(tcp)
	} else if tcp != nil {
		_ = tcp.SetLinger(0)
		_ = tcp.Close() // first: TLS would send close_notify to a client that does not read
	}
	go func() { // TLS's close_notify may block
		defer guard.Recover()
		_ = s.nc.Close()
	}()
}

func (s *parked) Chunked() bool { return s.chunked }
