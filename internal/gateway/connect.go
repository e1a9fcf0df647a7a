package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"ssegateway/internal/guard"
)

// Errors of Connect.
var (
	ErrDraining = errors.New("the gateway is draining")
	ErrFull     = errors.New("too many connections")
	ErrRequests = errors.New("too many bytes of requests are kept")
	ErrNameless = errors.New("the gateway has no number in its cluster now")
)

// IsFull reports whether there would be no such error if another connection were not there.
func IsFull(err error) bool { return errors.Is(err, ErrFull) || errors.Is(err, ErrRequests) }

// Leaver is a context of a client that can say how it left. Others have closed their connection.
type Leaver interface {
	Left() (Reason, Detail)
	// AfterFunc is context.AfterFunc for this context.
	AfterFunc(f func()) (stop func() bool)
}

// Connect registers a pending connection and asks the backend about it. An error is one of the above, or one of
// Config.Addresses. client ends when the client
// goes away, and may be a [Leaver]. With the answer Accepted the returned connection waits for Open, or for Abort if there
// will be no stream. Any other answer has ended it.
func (g *Gateway) Connect(client context.Context, request []byte) (*Conn, Answer, error) {
	c, err := g.register(request, asked, nil)
	if err != nil {
		if errors.Is(err, ErrRequests) {
			g.sayRefused(client)
		}
		return nil, Answer{}, err
	}
	var stop func() bool
	if l, ok := client.(Leaver); ok {
		stop = l.AfterFunc(func() {
			defer guard.Recover()
			c.Abort(l.Left())
		})
	} else {
		stop = context.AfterFunc(client, func() {
			defer guard.Recover()
			c.Abort(ClientClosed, 0)
		})
	}
	defer stop()
	g.log(client, c, "connect")
	a := Answer{Outcome: Unanswered} // if asking panics
	defer func() { c.onAnswer(a) }()
	a = g.backend.Connect(g.connecting, client, c.token, request)
	if a.Outcome == Unasked && client.Err() != nil {
		g.log(client, c, "the client left before the backend was asked")
	}
	return c, a, nil
}

func (g *Gateway) register(request []byte, k kind, x *extras) (*Conn, error) {
	spare := g.spare
	if x != nil && x.modest {
		spare = noSpare
	}
	for g.count.Add(1) > int64(g.cfg.MaxConnections)+g.tails.Load() {
		g.releaseSlot()
		if !spare(netip.Addr{}) {
			return nil, ErrFull
		}
	}
	node := g.node.Load()
	if node == nameless {
		g.releaseSlot()
		return nil, ErrNameless
	}
	if !g.cfg.Requests.admit(request) {
		g.releaseSlot()
		return nil, ErrRequests
	}
	if k == asked {
		if err := g.takeAddress(request, spare); err != nil {
			g.cfg.Requests.Release(request)
			g.releaseSlot()
			return nil, err
		}
	}
	c := &Conn{gw: g, token: NewToken(), request: request, since: uint32(time.Now().Unix()), kind: k, extras: x} //nolint:gosec // fits until 2106
	if node >= numbered {
		c.token = newNodeToken(uint32(node)) //nolint:gosec // the lower half
	}
	c.counterShard = c.token[shardByte]
	g.stats.Pending.Add(1)
	g.conns.add(c)
	// Not earlier: a drain, or the loss of the number, either sees the connection, or is seen here.
	err := error(nil)
	if g.draining.Load() {
		err = ErrDraining
	} else if g.node.Load() != node {
		err = ErrNameless
	}
	if err != nil {
		c.onAnswer(Answer{Outcome: Unreachable}) // the backend is not asked; it may be closed already
		return nil, err
	}
	return c, nil
}

// sayRefused logs that a connection is refused because of the bound on requests.
func (g *Gateway) sayRefused(client context.Context) {
	r := g.cfg.Requests
	r.full.LogContext(client, g.cfg.Log, slog.LevelWarn, "a stream is turned away: too many bytes of requests are kept, of connections and of ends that the backend was not told of yet",
		slog.Int64("bytes", r.Bytes()), slog.Int64("limit", r.limit))
}
