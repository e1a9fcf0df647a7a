package router

import (
	"context"
	"sync"
	"time"

	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
)

// streams are the streaming requests of other nodes to connections of this one.
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

// streamIdle is the time without a request after which a stream is forgotten. A message of it
// that comes still later is taken for one of a new stream.
const streamIdle = time.Minute

// begin begins a write, or returns it if it was begun already. It returns errStale for a write
// older than the last one. That was answered or given up, and must not be written again.
func (s *streams) begin(id string, number int, write func() (<-chan error, error)) (*lastWrite, error) {
	now, first := s.take(id, number)
	if now.number > number {
		return nil, errStale
	}
	if !first {
		return now, nil
	}
	done, err := write()
	if now.err = err; done == nil {
		close(now.over)
		return now, nil
	}
	go func() {
		defer guard.Recover()
		now.err = connections.Await(done)
		close(now.over)
	}()
	return now, nil
}

// take returns the last write. If number is newer, that becomes the last write, and first is set.
func (s *streams) take(id string, number int) (last *lastWrite, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[string]*lastWrite{}
	}
	last = s.all[id]
	if first = last == nil || last.number < number; first {
		if last != nil {
			last.expiry.Stop()
		}
		last = &lastWrite{number: number, over: make(chan struct{})}
		last.expiry = time.AfterFunc(streamIdle, func() {
			defer guard.Recover()
			s.forget(id, last)
		})
		s.all[id] = last
	} else {
		last.expiry.Reset(streamIdle)
	}
	return last, first
}

// keep prolongs the life of a stream whose connection is watched: its sender may pause.
func (s *streams) keep(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := s.all[id]; last != nil {
		last.expiry.Reset(streamIdle)
	}
}

func (s *streams) forget(id string, last *lastWrite) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[id] == last {
		delete(s.all, id)
	}
}

// write carries out a write of another node's streaming request.
func (r *Router) write(ctx context.Context, q *writeRequest) nodeAnswer {
	blocks, err := decodeBlocks(q.Blocks)
	if err != nil {
		return failed(errMalformed)
	}
	token, _ := gateway.ParseToken(q.Token) // nobody's, if it is none
	w, err := r.streams.begin(q.Stream, q.Number, func() (<-chan error, error) {
		return r.own.Write(token, blocks, q.Close)
	})
	if err != nil {
		return failed(err)
	}
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

// watch answers ErrGone when the connection of another node's streaming request has closed, or that it is still held after holdFor.
func (r *Router) watch(ctx context.Context, q *watchRequest) nodeAnswer {
	r.streams.keep(q.Stream)
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
