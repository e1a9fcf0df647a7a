package gateway

import (
	"context"
	"errors"
	"time"

	"ssegateway/internal/guard"
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
	return g.register(request, forwarded, &extras{stop: stop})
}

// Return is Forward for a request that an answer is for. It makes no room by giving others up.
func (g *Gateway) Return(request []byte) (*Conn, error) {
	return g.register(request, forwarded, &extras{modest: true})
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
	if err := c.gw.takeAddress(c.request, c.gw.spare); err != nil {
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

// Pass ends a relayed request whose answer is no stream.
func (c *Conn) Pass() { c.onAnswer(Answer{Outcome: Refused}) }

// IsRelayed reports whether the backend itself writes the stream.
func (c *Conn) IsRelayed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kind == relayed
}

// reads returns the answer that the stream reads, or nil.
func (c *Conn) reads() Kept {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.readerLocked(); r != nil {
		return r.kept
	}
	return nil
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
	case c.kind == relayed && !c.ended:
		kept := c.extras.reader.kept
		go func() {
			defer guard.Recover()
			kept.Stop()
		}()
		return Sent, true
	case c.kind == forwarded && c.state == Pending && end:
		c.closeLocked(ServerClosed, 0)
		return Sent, true
	}
	return 0, false
}

// stopSoon calls the stop of a relayed request. That of an answer is its own matter.
func (c *Conn) stopSoon() {
	if x := c.extras; x != nil && x.stop != nil && x.reader == nil {
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
		if k := c.reads(); k != nil {
			apart(k.Cut)
		}
	}
}
