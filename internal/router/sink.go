package router

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
	"ssegateway/sse"
)

// A streaming request may come to another node than the owner of its connection. The node that
// got the request reads the body, and asks the owner to write the events, one write at a time.
// Each write has a number, and the owner is asked with it until it answers the result. So an
// answer that is lost neither loses nor doubles an event. A watch is answered when the
// connection ends.

// holdFor is how long the owner waits for a result before it answers that there is none yet.
const holdFor = 5 * time.Second

// eventSink is a connection of another node.
type eventSink struct {
	router  *Router
	ctx     context.Context
	cancel  context.CancelFunc
	token   gateway.Token
	id      string
	writes  int
	closed  chan struct{}
	watched chan struct{} // closed when the watch is over
}

// Stream implements [connections.Connections].
func (r *Router) Stream(ctx context.Context, token gateway.Token) (connections.Sink, error) {
	if s, err := r.own.Stream(ctx, token); !errors.Is(err, connections.ErrNotFound) {
		return s, err
	}
	a, err := r.forward(ctx, token, nodeRequest{Describe: token.String()}, deadline)
	switch {
	case err != nil:
		if errors.Is(err, errOwn) {
			return nil, connections.ErrNotFound
		}
		return nil, err
	case a.Connection != nil && a.Connection.Relayed:
		return nil, connections.ErrRelayed
	}
	s := &eventSink{router: r, token: token, id: rand.Text(), closed: make(chan struct{}), watched: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(ctx)
	go s.watch()
	return s, nil
}

// Gone implements [connections.Sink].
func (s *eventSink) Gone() <-chan struct{} { return s.closed }

// IsAhead implements [connections.Sink]. Only the owner can check that.
func (s *eventSink) IsAhead(sse.Event) bool { return false }

// Stop implements [connections.Sink].
func (s *eventSink) Stop() {
	s.cancel()
	<-s.watched
}

// watch waits for the end of the connection.
func (s *eventSink) watch() {
	defer guard.Recover()
	defer close(s.watched)
	for s.ctx.Err() == nil {
		a, err := s.ask(nodeRequest{Watch: &watchRequest{Token: s.token.String(), Stream: s.id}})
		switch {
		case err == nil && a.Held:
		case errors.Is(err, connections.ErrGone):
			close(s.closed)
			return
		default: // not reached: the connection may live until the owner's lease ends
			pause := time.NewTimer(time.Second)
			select {
			case <-pause.C:
			case <-s.ctx.Done():
				pause.Stop()
			}
		}
	}
}

// Write implements [connections.Sink].
func (s *eventSink) Write(blocks []connections.Block, end bool) error {
	s.writes++
	w := &writeRequest{Token: s.token.String(), Stream: s.id, Number: s.writes, Close: end, Blocks: encodeBlocks(blocks)}
	for tries := 0; ; {
		a, err := s.ask(nodeRequest{Write: w})
		switch {
		case err == nil && a.Held:
		case errors.Is(err, connections.ErrUnreachable) && tries == 0 && s.ctx.Err() == nil:
			tries++ // the answer may have been lost
		default:
			return err
		}
	}
}

// ask asks the owner once.
func (s *eventSink) ask(q nodeRequest) (nodeAnswer, error) {
	a, err := s.router.forward(s.ctx, s.token, q, holdFor+deadline)
	if errors.Is(err, errOwn) {
		err = connections.ErrGone
	}
	return a, err
}
