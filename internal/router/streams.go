package router

import (
	"context"
	"sync"
	"time"

	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
)

// streams are the streaming requests of other nodes into connections of this one.
type streams struct {
	mu  sync.Mutex
	all map[string]*lastWrite // by the stream's id
}

// lastWrite is the last write of one of them.
type lastWrite struct {
	number int
	over   chan struct{} // closed when err says what became of the write
	err    error
	expiry *time.Timer
}

// streamIdle is after what time without a request a stream is forgotten.
const streamIdle = time.Minute

// begin begins a write, or finds it if it was begun already.
func (s *streams) begin(id string, number int, write func() (<-chan error, error)) *lastWrite {
	now, first := s.take(id, number)
	if !first {
		return now
	}
	done, err := write()
	if now.err = err; done == nil {
		close(now.over)
		return now
	}
	go func() {
		defer guard.Recover()
		if <-done != nil {
			now.err = connections.ErrGone
		}
		close(now.over)
	}()
	return now
}

// take finds a write, or is the first to have it.
func (s *streams) take(id string, number int) (now *lastWrite, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[string]*lastWrite{}
	}
	was := s.all[id]
	if was != nil {
		was.expiry.Stop()
	}
	now, first = was, was == nil || was.number != number
	if first {
		now = &lastWrite{number: number, over: make(chan struct{})}
	}
	now.expiry = time.AfterFunc(streamIdle, func() {
		defer guard.Recover()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.all[id] == now {
			delete(s.all, id)
		}
	})
	s.all[id] = now
	return now, first
}

// write answers a write of another node's streaming request.
func (r *Router) write(ctx context.Context, q *writeRequest) nodeAnswer {
	blocks, err := decodeBlocks(q.Blocks)
	if err != nil {
		return failed(errMalformed)
	}
	token, _ := gateway.ParseToken(q.Token) // nobody's, if it is none
	w := r.streams.begin(q.Stream, q.Number, func() (<-chan error, error) {
		return r.own.Write(token, blocks, q.Close)
	})
	hold := time.NewTimer(holdFor)
	defer hold.Stop()
	select {
	case <-w.over:
		return failed(w.err)
	case <-hold.C:
		return nodeAnswer{Held: true}
	case <-ctx.Done():
		return failed(connections.ErrUnreachable)
	}
}

// watch answers when the connection of another node's streaming request has closed.
func (r *Router) watch(ctx context.Context, q *watchRequest) nodeAnswer {
	token, _ := gateway.ParseToken(q.Token) // nobody's, if it is none
	gone, ok := r.own.Gone(token)
	if !ok {
		return failed(connections.ErrGone)
	}
	hold := time.NewTimer(holdFor)
	defer hold.Stop()
	select {
	case <-gone:
		return failed(connections.ErrGone)
	case <-hold.C:
		return nodeAnswer{Held: true}
	case <-ctx.Done():
		return failed(connections.ErrUnreachable)
	}
}
