package gateway

import (
	"errors"
	"time"

	"ssegateway/internal/frame"
)

// A tail is a connection by which an operator follows topics. The backend knows nothing of it, nor
// do other nodes; it is not listed, not counted as a stream or a receiver, and takes no place of
// MaxConnections. In all else it is a connection like any other.

// ErrTails is the error of Tail if there are as many as may be.
var ErrTails = errors.New("too many tails")

// Tail registers a tail. It waits for Open, or for Abort if there will be no stream.
func (g *Gateway) Tail() (*Conn, error) {
	if g.tails.Add(1) > int64(g.cfg.MaxTails) {
		g.tails.Add(-1)
		return nil, ErrTails
	}
	g.count.Add(1)
	g.cfg.Requests.Keep(nil)
	c := &Conn{gw: g, token: newTailToken(), answered: true, since: uint32(time.Now().Unix())} //nolint:gosec // fits until 2106
	c.counterShard = c.token[shardByte]
	g.conns.add(c)
	if g.draining.Load() { // not earlier: see register
		c.Abort(ServerClosed, Draining)
		return nil, ErrDraining
	}
	return c, nil
}

// Tails returns how many tails there are.
func (g *Gateway) Tails() int { return int(g.tails.Load()) }

// tailVersion is the UUID version in the token of a tail: one for own purposes (RFC 9562 section
// 5.8). It keeps tails apart from other connections at no cost for these.
const tailVersion = 8 << 4

func newTailToken() Token {
	t := NewToken()
	t[6] = tailVersion | t[6]&0x0f
	return t
}

func (c *Conn) isTail() bool { return c.token[6]&0xf0 == tailVersion }

// tail is the topics.Subscriber of a tail.
type tail struct{ *Conn }

// Deliver implements topics.Subscriber. Nobody counts a tail as a receiver.
func (t tail) Deliver(f *frame.Shared) bool {
	t.Conn.Deliver(f)
	return false
}
