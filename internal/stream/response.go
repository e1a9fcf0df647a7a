package stream

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
)

// A write blocks until the client's flow control has let all of it through, and its
// progress is not visible. So the bytes are written in pieces, smaller ones to a slow
// client. A client has to take a whole piece within gateway.StallDeadline: it is cut if it
// takes less than 820 bytes a second after it was fast, or 7 after it was slow. Smaller
// pieces cost throughput.
const (
	maxPiece   = 8 << 10 // bytes, as all of these
	firstPiece = 1 << 10
	minPiece   = 64

	slowPiece = time.Second            // a slower piece makes the next one as small as minPiece
	fastPiece = 100 * time.Millisecond // a faster piece makes the next one twice as large
)

// response is a [gateway.Stream] written by the goroutine of its HTTP handler.
type response struct {
	conn *gateway.Conn
	link *link // nil if unknown
	w    http.ResponseWriter
	rc   *http.ResponseController
	wake chan struct{} // has a value when there is something to write
	done chan struct{} // closed when the stream is

	aborted atomic.Bool
	taken   atomic.Uint64 // bytes written

	piece int // size of the next piece; owned by the handler's goroutine

	// Guarded by mu, which is never held while something blocks.
	mu      sync.Mutex
	writing bool
	closed  bool

	// Guarded by the connection's lock: what Look found, and how often that was progress.
	lastTaken, lastProgress, moves uint64
}

// serveResponse serves a stream until it is over.
func serveResponse(w http.ResponseWriter, r *http.Request, c *gateway.Conn, g gateway.Grant) {
	s := &response{
		conn: c, w: w, rc: http.NewResponseController(w), wake: make(chan struct{}, 1), done: make(chan struct{}), piece: firstPiece,
	}
	s.link, _ = r.Context().Value(transportKey{}).(*link)
	if !c.Open(s, frame.Frame{}, g) {
		panic(http.ErrAbortHandler)
	}
	client := context.AfterFunc(r.Context(), func() {
		defer guard.Recover()
		s.leave()
	})
	defer client()
	w.WriteHeader(http.StatusOK) // is sent together with the first bytes of the stream

	write := func(p []byte) gateway.Detail {
		if s.write(p) == nil {
			return 0
		}
		// The write failed because the client left, but may fail before the request's
		// context ends.
		select {
		case <-r.Context().Done():
			s.leave()
		case <-time.After(time.Second):
		}
		return gateway.WriteFailed
	}
	for open := true; open; {
		select {
		case <-s.wake:
			open = c.Pump(s, write)
		case <-s.done:
			open = false
		}
	}
	if s.aborted.Load() {
		panic(http.ErrAbortHandler) // RST_STREAM: the client must see a cut, not an end
	}
}

// leave reports to the gateway that the request is over: the client ended it, or its
// connection failed.
func (s *response) leave() {
	if s.link != nil {
		if r, d := s.link.fault(); r != 0 {
			s.conn.Abort(r, d)
			return
		}
	}
	s.conn.Abort(gateway.ClientClosed, 0)
}

// write has no deadline: the gateway notices a stalled client, and Close ends this.
func (s *response) write(p []byte) error {
	for len(p) > 0 {
		n := min(len(p), s.piece)
		start := time.Now()
		err := s.blocking(func() error {
			if _, err := s.w.Write(p[:n]); err != nil {
				return err
			}
			return s.rc.Flush()
		})
		if err != nil {
			return err
		}
		s.taken.Add(uint64(n)) //nolint:gosec // not negative
		p = p[n:]
		switch took := time.Since(start); {
		case took > slowPiece:
			s.piece = minPiece
		case took < fastPiece:
			s.piece = min(2*s.piece, maxPiece)
		}
	}
	return nil
}

// blocking calls f so that Close can interrupt it.
func (s *response) blocking(f func() error) error {
	if !s.begin() {
		return http.ErrAbortHandler
	}
	err := f()
	s.mu.Lock()
	s.writing = false
	s.mu.Unlock()
	return err
}

func (s *response) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = !s.closed
	return s.writing
}

func (s *response) Start() gateway.Detail { return 0 }

func (s *response) Write([]byte) (int, gateway.Detail) {
	wake(s.wake)
	return 0, 0
}

func (s *response) Left() (gateway.Reason, gateway.Detail) { return 0, 0 }

// Look never reports that bytes are owing: the link, which may have other streams too, is
// watched for that separately.
func (s *response) Look(uint64) (progress uint64, owing bool) {
	taken := s.taken.Load()
	moves := taken != s.lastTaken
	s.lastTaken = taken
	if s.link != nil {
		acknowledged, owing := s.link.look()
		// A full socket holds up this stream, so the socket's progress counts for it.
		if owing && s.link.Writing() {
			moves = moves || acknowledged != s.lastProgress
		}
		s.lastProgress = acknowledged
	}
	if moves {
		s.moves++
	}
	return 1 + s.moves, false
}

func (s *response) Close(abort bool) {
	s.aborted.Store(abort)
	close(s.done)
	s.mu.Lock()
	defer s.mu.Unlock()
	// A clean close follows the last write; only the head may still be under way.
	s.closed = abort
	if abort && s.writing {
		go s.interrupt()
	}
}

// interrupt resets the stream, which ends the write that is under way. While mu is
// held the handler does not end; nor does this take long, even if the client takes nothing.
func (s *response) interrupt() {
	defer guard.Recover()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writing {
		_ = s.rc.SetWriteDeadline(time.Unix(1, 0))
	}
}

func (s *response) Chunked() bool { return false }
