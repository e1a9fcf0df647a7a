package connections

import (
	"context"
	"errors"

	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/sse"
)

// Stream implements [Connections].
func (o *Own) Stream(_ context.Context, token gateway.Token) (Sink, error) {
	c := o.gw.Find(token)
	if _, ok := o.answers.Answer(token); ok || c != nil && c.IsRelayed() {
		return nil, ErrRelayed
	}
	if c == nil || c.State() == gateway.Closed {
		return nil, ErrNotFound
	}
	return sink{o, c}, nil
}

// sink is a connection of this node.
type sink struct {
	own  *Own
	conn *gateway.Conn
}

func (s sink) Gone() <-chan struct{}    { return s.conn.Gone() }
func (s sink) IsAhead(e sse.Event) bool { return s.own.isAhead(context.Background(), e.ID) }
func (s sink) Stop()                    {}

func (s sink) Write(blocks []Block, end bool) error {
	done, err := s.own.write(s.conn, blocks, end)
	if err != nil || done == nil {
		return err
	}
	return Await(done)
}

// Await waits until blocks that [Own.Write] took are written, and returns why they were not, if so.
func Await(done <-chan error) error {
	switch err := <-done; {
	case err == nil:
		return nil
	case errors.Is(err, gateway.ErrDropped):
		return ErrDropped
	default:
		return ErrGone
	}
}

// Write queues blocks for a connection as one write, and closes it after them if end is set.
// done, if not nil, is for Await. All ids are
// checked before anything is written.
func (o *Own) Write(token gateway.Token, blocks []Block, end bool) (done <-chan error, err error) {
	c := o.gw.Find(token)
	if c == nil {
		return nil, ErrGone
	}
	for _, b := range blocks {
		if o.isAhead(context.Background(), b.ID) {
			return nil, ErrAhead
		}
	}
	return o.write(c, blocks, end)
}

// Gone returns a channel that is closed when a connection closes. ok is false if there is no such connection.
func (o *Own) Gone(token gateway.Token) (gone <-chan struct{}, ok bool) {
	c := o.gw.Find(token)
	if c == nil {
		return nil, false
	}
	return c.Gone(), true
}

func (o *Own) write(c *gateway.Conn, blocks []Block, end bool) (<-chan error, error) {
	var joined frame.Frame
	var done chan error
	if len(blocks) > 0 {
		frames := make([]frame.Frame, len(blocks))
		for i, b := range blocks {
			if frames[i] = frame.Event(o.gw.Form(b.Event)); b.Bare {
				frames[i] = frame.Block(sse.AppendSettings(nil, b.Retry, b.ID))
			}
		}
		joined, done = frame.Join(frames), make(chan error, 1)
	}
	switch c.Send(joined, end, done) {
	case gateway.Sent, gateway.Buffered:
		return done, nil
	case gateway.Full:
		return nil, ErrBufferFull
	case gateway.Relayed:
		return nil, ErrRelayed
	case gateway.Failed, gateway.Gone:
	}
	return nil, ErrGone
}
