package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"ssegateway/internal/guard"
	"ssegateway/internal/logging"
)

// handshakeTimeout is how long a peer may take for a TLS handshake.
const handshakeTimeout = 10 * time.Second

// ListenTLS is Listen for connections that begin with a TLS handshake. Accept returns them when
// it is over: a *tls.Conn for HTTP/2, and for HTTP/1 a connection of which net/http knows no more than
// that it has a ConnectionState. net/http's own refusals then pass through the edge before they are encrypted.
func (e *Edge) ListenTLS(l net.Listener, config *tls.Config, refusal Refusal) net.Listener {
	return e.ListenProxied(l, nil, config, refusal)
}

// ListenProxied is Listen, or with a config ListenTLS, where the connections of proxies begin with a
// header of the PROXY protocol, before anything else. Accept returns them when it has come.
func (e *Edge) ListenProxied(l net.Listener, proxies Proxies, config *tls.Config, refusal Refusal) net.Listener {
	kind := Plain
	if config != nil {
		kind = overTLS
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &preparing{
		Listener: e.Listen(l, kind, refusal), proxies: proxies, config: config, log: e.cfg.Log, throttle: logging.Every(time.Second), unproxied: logging.Every(time.Second),
		ctx: ctx, cancel: cancel, ready: make(chan net.Conn), failed: make(chan struct{}),
	}
	go t.accept()
	return t
}

// preparing is a listener whose connections begin with something before HTTP.
type preparing struct {
	net.Listener
	proxies  Proxies     // nil: none
	config   *tls.Config // nil: without TLS
	log      *slog.Logger
	throttle *logging.Throttle
	// unproxied is for lines about proxies without a header.
	unproxied *logging.Throttle

	ctx    context.Context // ends with Close, and the handshakes with it
	cancel context.CancelFunc
	ready  chan net.Conn // that are prepared
	failed chan struct{} // closed when nothing more comes
	err    error         // why; set before failed is closed
}

// Accept implements net.Listener.
func (l *preparing) Accept() (net.Conn, error) {
	select {
	case nc := <-l.ready:
		return nc, nil
	case <-l.failed:
		return nil, l.err
	}
}

// Close implements net.Listener. It ends what is under way.
func (l *preparing) Close() error {
	l.cancel()
	return l.Listener.Close()
}

func (l *preparing) accept() {
	defer guard.Recover()
	defer close(l.failed)
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			l.err = err
			return
		}
		go l.prepare(nc)
	}
}

// prepare passes the connection on, or closes it. As in net/http, a panic ends only this connection.
func (l *preparing) prepare(nc net.Conn) {
	var ready net.Conn
	err := guard.Run(func() (err error) { ready, err = l.prepared(nc); return err })
	if err == nil {
		select {
		case l.ready <- ready:
			return
		case <-l.ctx.Done():
		}
	}
	_ = nc.Close()
	if panicked := (*guard.Panic)(nil); errors.As(err, &panicked) {
		l.throttle.Log(l.log, slog.LevelError, "the beginning of a connection panicked", slog.Any("error", err), slog.String("stack", string(panicked.Stack)))
	} else if errors.Is(err, errHeader) && l.ctx.Err() == nil { // a setting here or there is wrong
		l.unproxied.Log(l.log, slog.LevelWarn, "a peer of TRUSTED_PROXIES does not begin with a header of the PROXY protocol, and is turned away: have it send one (version 1 or 2), take it out of TRUSTED_PROXIES, "+
			"or leave PROXY_PROTOCOL off", slog.Any("error", err))
	} else if err != nil { // a client's errors matter only for debugging it
		l.throttle.Log(l.log, slog.LevelDebug, "a connection ended before its first request", slog.String("peer", nc.RemoteAddr().String()), slog.Any("error", err))
	}
}

func (l *preparing) prepared(nc net.Conn) (net.Conn, error) {
	if l.isProxy(nc) {
		if err := Of(nc).readHeader(l.ctx); err != nil {
			return nil, err
		}
	}
	if l.config == nil {
		return nc, nil
	}
	return l.secured(nc)
}

func (l *preparing) secured(nc net.Conn) (net.Conn, error) {
	t := tls.Server(nc, l.config)
	_ = nc.SetDeadline(time.Now().Add(handshakeTimeout))
	err := t.HandshakeContext(l.ctx)
	_ = nc.SetDeadline(time.Time{})
	c := Of(nc)
	if plain := (tls.RecordHeaderError{}); errors.As(err, &plain) && plain.Conn != nil && looksLikeHTTP(plain.RecordHeader) && c.refusal != nil {
		_, _ = c.write(c.refusal(http.StatusBadRequest, "Client sent an HTTP request to an HTTPS server.", ""))
	}
	if err != nil {
		return nil, err
	}
	if t.ConnectionState().NegotiatedProtocol == "h2" {
		return t, nil
	}
	return &https1{t, c}, nil
}

// looksLikeHTTP reports whether what should be the header of a TLS record begins a request of HTTP/1.
func looksLikeHTTP(header [5]byte) bool {
	switch string(header[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "PATCH", "DELET":
		return true
	}
	return false
}

// https1 is a connection of HTTP/1 over TLS. The edge sees what it carries, as of a plain one.
type https1 struct {
	*tls.Conn
	conn *Conn
}

// Read implements net.Conn.
func (h *https1) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	if err == nil {
		return h.conn.see(p, n)
	}
	return n, err
}

// Write implements net.Conn.
func (h *https1) Write(p []byte) (int, error) {
	if h.conn.handedOver.Load() {
		return h.Conn.Write(p)
	}
	return h.conn.orRefusal(p, h.Conn.Write)
}
