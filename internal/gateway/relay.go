package gateway

import (
	"context"
	"errors"
	"time"

	"ssegateway/internal/frame"
	"ssegateway/internal/guard"
	"ssegateway/internal/outbox"
)

// A request that is relayed to the backend is a pending connection while the backend has not answered: what is sent
// to its token is buffered. By the answer it becomes a connection like any other (Hold), a stream of which the
// backend itself writes every byte (Relay), or nothing (Pass).

// kind is what a connection is, where it did not come by Connect.
type kind uint8

const (
	asked     kind = iota // by a connect callback, or by a relayed request that is held
	forwarded             // a relayed request that the backend has not answered, or whose answer is passed through
	relayed               // a stream of the backend's own
)

// ErrRelayed is returned for a stream that cannot be changed, since the backend itself writes it.
var ErrRelayed = errors.New("the stream is relayed")

// Forward registers a relayed request. It waits for Hold, Relay or Pass. The errors are those of Connect, without those
// of Config.Addresses. stop is called in a goroutine of its own when the connection closes; it ends the backend's request.
func (g *Gateway) Forward(request []byte, stop func()) (*Conn, error) {
	return g.register(request, forwarded, stop)
}

type heldKey struct{}

// Held returns the answer that the backend has given already, if client is the context of a request that is held. A
// Backend that would ask returns it instead.
func Held(client context.Context) (a Answer, ok bool) {
	a, ok = client.Value(heldKey{}).(Answer)
	return a, ok
}

// Hold makes a relayed request a connection that the backend has accepted with this answer. It returns false if there is
// no stream: the connection has closed meanwhile, or the record of it cannot be written. err is one of Config.Addresses.
func (c *Conn) Hold(client context.Context, a Answer) (ok bool, err error) {
	if err := c.takeAddress(); err != nil {
		c.Pass()
		return false, err
	}
	c.mu.Lock()
	c.kind = asked
	c.mu.Unlock()
	final := Answer{Outcome: Unanswered} // if it panics
	defer func() { c.onAnswer(final) }()
	final = c.gw.backend.Connect(c.gw.connecting, context.WithValue(client, heldKey{}, a), c.token, c.request)
	return final.Outcome == Accepted && c.State() == Pending, nil
}

// takeAddress counts the connection for its client's address. The caller has to give it another kind then: one that is
// forwarded is not counted.
func (c *Conn) takeAddress() error {
	if a := c.gw.cfg.Addresses; a != nil {
		return a.Take(ClientIP(c.request))
	}
	return nil
}

// Relay makes a relayed request a stream of the backend's own, and drops what was sent to it. It then waits for Open.
// An error, one of Config.Addresses, has ended it.
func (c *Conn) Relay() error {
	if err := c.takeAddress(); err != nil {
		c.Pass()
		return err
	}
	c.mu.Lock()
	defer c.unlock()
	c.kind, c.answered = relayed, true
	if c.state == Closed {
		c.endLocked(false)
	} else {
		c.dropLagLocked()
	}
	return nil
}

// Pass ends a relayed request whose answer is no stream.
func (c *Conn) Pass() { c.onAnswer(Answer{Outcome: Refused}) }

// Push writes blocks that the backend has written to its stream. done, which needs room for one value, gets nil when they
// were handed to the client's socket, or an error of the kind ErrNotWritten. Push returns false, and done gets nothing, if
// the connection has closed. The caller waits for done before it pushes more: so no bound is needed on what waits.
func (c *Conn) Push(f frame.Frame, done chan<- error) bool {
	c.mu.Lock()
	defer c.unlock()
	i := outbox.Item{Frame: f, Done: done}
	switch c.state {
	case Pending: // Open is about to come
		c.pushLocked(i)
		return true
	case Open:
		return c.appendLocked(i)
	case Closed:
	}
	return false
}

// Finish ends a relayed stream properly, as the backend has.
func (c *Conn) Finish() {
	c.mu.Lock()
	defer c.unlock()
	switch c.state {
	case Pending:
		c.closing = true // for Open
	case Open:
		c.closeLocked(ServerClosed, 0)
	case Closed:
	}
}

// Break cuts a relayed stream, since the backend has not ended it. One that is about to end, as it was stopped, goes on to
// its end.
func (c *Conn) Break() {
	c.mu.Lock()
	defer c.unlock()
	if c.state != Closed {
		c.closeLocked(Error, ConnectionLost)
	}
}

// IsRelayed reports whether the backend itself writes the stream.
func (c *Conn) IsRelayed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kind == relayed
}

// isForwarded reports whether the backend knows of no connection here: it was not held.
func (c *Conn) isForwarded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kind != asked
}

// stopLocked reports whether what the internal API asks for is not for a relayed request. A close of one is
// carried out here.
func (c *Conn) stopLocked(end bool) (Result, bool) {
	switch {
	case c.kind == relayed && !end:
		return Relayed, true
	case c.kind == relayed && c.state == Open || c.kind != asked && c.state == Pending && end:
		c.closeLocked(ServerClosed, 0)
		return Sent, true
	}
	return 0, false
}

// stopSoon calls the stop of a relayed request.
func (c *Conn) stopSoon() {
	if x := c.extras; x != nil && x.stop != nil {
		stop := x.stop
		go func() {
			defer guard.Recover()
			stop()
		}()
	}
}

// relayRest is how long before the end of a drain's window relayed streams are cut.
const relayRest = 5 * time.Second

// cutRelayed cuts the relayed streams: they have an end of the backend's, or none.
func (g *Gateway) cutRelayed() {
	defer guard.Recover()
	for _, c := range g.conns.all() {
		if c.IsRelayed() {
			apart(func() { c.Abort(Error, Draining) })
		}
	}
}
