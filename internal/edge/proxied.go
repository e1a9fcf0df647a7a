package edge

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"

	"ssegateway/internal/guard"
)

// headerTimeout is how long a proxy may take for the header of the PROXY protocol.
const headerTimeout = 10 * time.Second

// headerBuffer is how much is read at a time while a header comes. It holds a header of version 1.
const headerBuffer = 256

// proxied is what the header of the PROXY protocol changes of a connection. It is fixed before the
// connection is passed on, but for early, which belongs to the reader.
type proxied struct {
	remote net.Addr // the client's; nil: the header has none, and the peer's own counts
	early  []byte   // read before net/http got the connection, and not yet passed on
}

// errHeader is an error of a peer that has to begin with a header.
var errHeader = errors.New("no header of the PROXY protocol")

// readHeader reads the header of the PROXY protocol (version 1 or 2) with which a connection begins.
func (c *Conn) readHeader(ctx context.Context) error {
	_ = c.Conn.SetReadDeadline(time.Now().Add(headerTimeout))
	stop := context.AfterFunc(ctx, func() {
		defer guard.Recover()
		_ = c.Conn.SetReadDeadline(time.Unix(1, 0))
	})
	r := bufio.NewReaderSize(c.Conn, headerBuffer)
	_, silent := r.Peek(1)
	awaitLine(r)
	header, err := proxyproto.Read(r)
	switch {
	case silent != nil: // it only looks whether somebody listens
		return silent
	case err != nil:
		return fmt.Errorf("%w: %w", errHeader, err)
	case !stop():
		return ctx.Err()
	}
	_ = c.Conn.SetReadDeadline(time.Time{})
	p := &proxied{}
	if n := r.Buffered(); n > 0 {
		early, _ := r.Peek(n) // it is there
		p.early = append(p.early, early...)
	}
	if client, ok := header.SourceAddr.(*net.TCPAddr); ok && header.Command.IsProxy() {
		p.remote = client
		c.edge.mu.Lock()
		c.addr = addrOf(client)
		c.edge.mu.Unlock()
	}
	c.proxied = p
	return nil
}

// maxLine is how long a header of version 1 may be, in bytes.
const maxLine = 107

// awaitLine waits until a header of version 1 is in the buffer, if one has begun. proxyproto.Read takes such a
// header only in one piece.
func awaitLine(r *bufio.Reader) {
	for n := 1; n <= maxLine; n++ {
		b, err := r.Peek(n)
		if err != nil || b[0] != 'P' || b[n-1] == '\n' {
			return
		}
	}
}

// RemoteAddr implements net.Conn. Behind a proxy that speaks the PROXY protocol it is the client's address.
func (c *Conn) RemoteAddr() net.Addr {
	if p := c.proxied; p != nil && p.remote != nil {
		return p.remote
	}
	return c.Conn.RemoteAddr()
}

// receive reads what came with the header, and then from the connection.
func (c *Conn) receive(p []byte) (int, error) {
	if h := c.proxied; h != nil && len(h.early) > 0 {
		n := copy(p, h.early)
		if h.early = h.early[n:]; len(h.early) == 0 {
			h.early = nil
		}
		return n, nil
	}
	return c.Conn.Read(p)
}

// isProxy reports whether a peer has to begin with a header of the PROXY protocol.
func (l *preparing) isProxy(nc net.Conn) bool {
	if l.proxies == nil {
		return false
	}
	peer, ok := nc.RemoteAddr().(*net.TCPAddr)
	return ok && l.proxies(peer.AddrPort().Addr().Unmap().WithZone(""))
}

// Proxies reports whether a peer is a proxy that begins each connection with a header of the PROXY protocol. A nil
// Proxies is none.
type Proxies func(netip.Addr) bool
