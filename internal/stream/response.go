package stream

import (
	"context"
	"errors"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
)

// response is a [gateway.Stream] written by the goroutine of its HTTP handler.
type response struct {
	wake    chan struct{} // has a value when there is something to write
	done    chan struct{} // closed when the stream is
	aborted atomic.Bool
	writes  atomic.Uint64 // that are over
}

// serveResponse serves a stream until it is over.
func serveResponse(w http.ResponseWriter, r *http.Request, c *gateway.Conn, g gateway.Grant) {
	s := &response{wake: make(chan struct{}, 1), done: make(chan struct{})}
	if !c.Open(s, frame.Frame{}, g) {
		panic(http.ErrAbortHandler)
	}
	client := context.AfterFunc(r.Context(), func() { c.Leave(gateway.ClientClosed, 0) })
	defer client()
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	_ = rc.Flush() // a failure shows at the next write, or by r.Context

	write := func(p []byte) gateway.Detail {
		// Rolling: a stream lives for hours, but no write may. The deadline is
		// taken off again, since it would reset an idle stream, too. It leaves the
		// gateway time to notice the stall first: a reset at the deadline looks as if
		// it were the client's.
		_ = rc.SetWriteDeadline(time.Now().Add(gateway.StallDeadline + 2*time.Second))
		_, err := w.Write(p)
		if err == nil {
			err = rc.Flush()
		}
		_ = rc.SetWriteDeadline(time.Time{})
		switch {
		case err == nil:
			s.writes.Add(1)
			return 0
		case errors.Is(err, os.ErrDeadlineExceeded):
			return gateway.Stalled
		}
		// The client's leaving was first, and the write failed for it; but the write may
		// be told of it first.
		select {
		case <-r.Context().Done():
			c.Leave(gateway.ClientClosed, 0)
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
		panic(http.ErrAbortHandler) // RST_STREAM: the client is to see a cut, not an end
	}
}

func (s *response) Start() gateway.Detail { return 0 }

func (s *response) Write([]byte) (int, gateway.Detail) {
	wake(s.wake)
	return 0, 0
}

func (s *response) Left() (gateway.Reason, gateway.Detail) { return 0, 0 }

// Look knows no better than that a write is over.
func (s *response) Look(uint64) (progress uint64, owing bool) { return 1 + s.writes.Load(), false }

func (s *response) Close(abort bool) {
	s.aborted.Store(abort)
	close(s.done)
}

func (s *response) Chunked() bool { return false }
