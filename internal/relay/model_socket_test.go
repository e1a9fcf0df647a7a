package relay

import (
	"bytes"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"

	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
)

// socket is the stream of a client of the model, and the client's end of it: with chunks or without, and written by the
// goroutine that sends or by one of its own.
type socket struct {
	conn    *gateway.Conn
	chunked bool
	pumped  bool
	room    int // bytes that it takes until the client reads
	opened  time.Time

	mu      sync.Mutex
	changed *sync.Cond
	buffer  []byte // for the client
	read    int
	armed   bool // the gateway waits for room
	left    bool // the client has
	closed  bool
	aborted bool
	wake    chan struct{}
	done    chan struct{}

	gone func() // called once, when the client has left or the gateway has ended the stream
}

func newSocket(c *gateway.Conn, chunked, pumped bool, room int) *socket {
	s := &socket{conn: c, chunked: chunked, pumped: pumped, room: room, opened: time.Now(), wake: make(chan struct{}, 1), done: make(chan struct{})}
	s.changed = sync.NewCond(&s.mu)
	return s
}

// Start implements gateway.Stream.
func (s *socket) Start() gateway.Detail {
	if s.pumped {
		go func() {
			for {
				select {
				case <-s.wake:
					if !s.conn.Pump(s, s.writeAll) {
						return
					}
				case <-s.done:
					return
				}
			}
		}()
	}
	return 0
}

// Write implements gateway.Stream.
func (s *socket) Write(p []byte) (int, gateway.Detail) {
	if s.pumped {
		select {
		case s.wake <- struct{}{}:
		default:
		}
		return 0, 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left {
		return 0, gateway.WriteFailed
	}
	n := min(len(p), s.room-len(s.buffer))
	s.buffer = append(s.buffer, p[:n]...)
	s.armed = s.armed || n < len(p)
	s.changed.Broadcast()
	return n, 0
}

func (s *socket) writeAll(p []byte) gateway.Detail {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(p) > 0 {
		for len(s.buffer) >= s.room && !s.left && !s.aborted {
			s.changed.Wait()
		}
		if s.left || s.aborted {
			return gateway.WriteFailed
		}
		n := min(len(p), s.room-len(s.buffer))
		s.buffer = append(s.buffer, p[:n]...)
		p = p[n:]
		s.changed.Broadcast()
	}
	return 0
}

// Left implements gateway.Stream.
func (s *socket) Left() (gateway.Reason, gateway.Detail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left {
		return gateway.ClientClosed, 0
	}
	return 0, 0
}

// Look implements gateway.Stream.
func (s *socket) Look(uint64) (progress uint64, owing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return 1 + uint64(s.read), len(s.buffer) > 0
}

// Close implements gateway.Stream.
func (s *socket) Close(abort bool) {
	close(s.done)
	s.gone()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed, s.aborted = true, abort
	}
	s.changed.Broadcast()
}

// Chunked implements gateway.Stream.
func (s *socket) Chunked() bool { return s.chunked }

// take reads what is there, at most that many bytes, and waits for some. It returns nothing at the end.
func (s *socket) take(most int) []byte {
	s.mu.Lock()
	for len(s.buffer) == 0 && !s.closed && !s.left {
		s.changed.Wait()
	}
	n := min(most, len(s.buffer))
	p := bytes.Clone(s.buffer[:n])
	s.buffer = s.buffer[n:]
	s.read += n
	armed := s.armed
	s.armed = false
	s.changed.Broadcast()
	s.mu.Unlock()
	if armed {
		s.conn.Ready(s, false, true)
	}
	return p
}

// die is the death of the node: its client sees a cut.
func (s *socket) die() {
	s.gone()
	s.mu.Lock()
	if !s.closed {
		s.closed, s.aborted, s.buffer = true, true, nil
	}
	s.changed.Broadcast()
	s.mu.Unlock()
	s.conn.Abort(gateway.ClientClosed, 0)
}

// leave is the end of the client.
func (s *socket) leave() {
	s.gone()
	s.mu.Lock()
	s.left = true
	s.changed.Broadcast()
	s.mu.Unlock()
	if s.pumped {
		s.conn.Abort(gateway.ClientClosed, 0)
	} else {
		s.conn.Ready(s, true, false)
	}
}

// content returns what the bytes from the gateway say, and whether they end properly.
func (s *socket) content(wire []byte) (body string, clean bool) {
	s.mu.Lock()
	ended := s.closed && !s.aborted && !s.left
	s.mu.Unlock()
	if !s.chunked {
		return string(wire), ended
	}
	var b strings.Builder
	buf := make([]byte, 4096)
	for r := httputil.NewChunkedReader(bytes.NewReader(wire)); ; {
		n, err := r.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			return b.String(), ended && bytes.HasSuffix(wire, frame.End.Wire(true))
		}
	}
}

// recorder is what the client of the model gets instead of a stream.
type recorder struct {
	header http.Header
	status int
	socket *socket // nil: it got a status
	asked  *app    // whose answer it is, if it was asked
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return len(p), nil
}

func (r *recorder) WriteHeader(status int) { r.status = status }
