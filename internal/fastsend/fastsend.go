// Package fastsend serves POST /internal/send on connections that senders keep and use
// again, at a fraction of what a request through net/http costs: no goroutine for
// each connection, no parsed header, one system call to read and one to answer.
//
// It is a short cut, not a second server. net/http accepts connections, and hands one
// over once it has sent. The package carries out only whole, plain requests to send (see
// parse). With anything else the connection goes back to net/http, with the bytes that
// were read, and stays there. So checks are as strict as net/http's, and rare cases are
// left to net/http.
package fastsend

import (
	"bytes"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Request is what a Handler is given of a request: bytes that are valid until it returns.
type Request struct {
	Body, Authorization     []byte
	Traceparent, Tracestate []byte // W3C trace context; nil: there is none
}

// Handler carries out sends. Each goroutine of a Server has one of its own.
type Handler interface {
	// Serve carries out the send in a body, and returns its answer: an HTTP status and
	// a body of JSON, valid until the next call. It does not block. If the send has to
	// wait, Serve does nothing yet and returns status 0 and later, which carries it out
	// on another goroutine. Status 0 and a nil later leave the request to net/http.
	Serve(r Request) (status int, answer []byte, later func() (status int, answer []byte))
}

// returned is a connection that goes back to net/http.
type returned struct {
	net.Conn
	unread []byte // bytes that were read here
}

func (c *returned) Read(p []byte) (int, error) {
	if len(c.unread) > 0 {
		n := copy(p, c.unread)
		c.unread = c.unread[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// NetConn returns the underlying connection, or nil while unread bytes are left.
func (c *returned) NetConn() net.Conn {
	if len(c.unread) > 0 {
		return nil
	}
	return c.Conn
}

// Returned reports whether a connection went back to net/http from this package.
func Returned(c net.Conn) bool {
	_, ok := c.(*returned)
	return ok
}

// Suits reports whether the connection of a request may be taken over after its answer:
// whether requests like it would be carried out here.
func Suits(r *http.Request) bool { return supported && suits(r) }

func suits(r *http.Request) bool {
	if r.Method != http.MethodPost || r.RequestURI != target || r.ProtoMajor != 1 || r.ProtoMinor != 1 || r.Close || r.TLS != nil ||
		r.ContentLength < 0 || r.ContentLength > maxRequest-maxHead || !isJSON(r.Header.Get("Content-Type")) {
		return false
	}
	for name := range r.Header {
		if meaningOf([]byte(name)) == meansMore {
			return false
		}
	}
	return true
}

// Take takes over a connection that was hijacked from net/http after a request was carried
// out, and writes that request's answer. unread holds the bytes that net/http read behind the
// request. If there are any, or the connection is not a plain socket, it goes straight to the
// exit.
//
// host is the Host of that request. Whether the caller may call can depend on it, so
// requests with another Host are left to net/http.
func (s *Server) Take(nc net.Conn, unread []byte, exit *Exit, host string, status int, answer []byte) {
	if _, err := nc.Write(appendAnswer(nil, status, new(clock).now(), answer)); err != nil {
		_ = nc.Close()
		return
	}
	unread = afterLineEnds(unread)
	if len(unread) > 0 || !s.adopt(nc, exit, host) {
		exit.give(&returned{nc, bytes.Clone(unread)})
	}
}

// Exit is where connections go back to net/http: a listener for a server to serve.
type Exit struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// NewExit makes an Exit of a server that listens at addr.
func NewExit(addr net.Addr) *Exit {
	return &Exit{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (e *Exit) Accept() (net.Conn, error) {
	select {
	case c := <-e.conns:
		return c, nil
	case <-e.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (e *Exit) Close() error {
	e.once.Do(func() { close(e.closed) })
	return nil
}

// Addr implements net.Listener.
func (e *Exit) Addr() net.Addr { return e.addr }

func (e *Exit) give(c net.Conn) {
	select {
	case e.conns <- c:
	case <-e.closed:
		_ = c.Close()
	}
}

// appendAnswer appends a response as net/http writes ours. date is an HTTP-date.
func appendAnswer(b []byte, status int, date string, body []byte) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(status)...)
	b = append(b, "\r\nCache-Control: no-store\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\nDate: "...)
	b = append(b, date...)
	b = append(b, "\r\n\r\n"...)
	return append(b, body...)
}

// clock caches the HTTP-date (RFC 9110 section 5.6.7), which changes once a second.
type clock struct {
	second int64
	date   string
}

func (c *clock) now() string {
	if t := time.Now(); t.Unix() != c.second {
		c.second, c.date = t.Unix(), t.UTC().Format(http.TimeFormat)
	}
	return c.date
}
