// Package fastsend serves POST /internal/send on connections that senders keep and use
// again, at a fraction of what a request through net/http costs: no goroutine for
// each connection, no parsed header, one system call to read and one to answer.
//
// It is a short cut, not a second server. net/http accepts connections, and a
// connection comes here when it has sent before. What is read here is carried out
// only if it is a whole, plain request to send (see parse); with anything else the
// connection goes back to net/http, with the bytes that were read, and stays there. So
// what is strict there is strict here, and what is rare is net/http's.
package fastsend

import (
	"bytes"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Handler carries out sends. Each goroutine of a Server has one of its own.
type Handler interface {
	// Serve carries out the send in a body, and returns its answer: an HTTP status and
	// a body of JSON, valid until the next call. It does not block; where the send
	// has to wait it has done nothing yet and returns, with the status 0, what carries
	// it out on another goroutine. With neither, net/http is to serve the request.
	// It keeps nothing of its arguments.
	Serve(authorization, body []byte) (status int, answer []byte, later func() (status int, answer []byte))
}

// returned is a connection that goes back to net/http.
type returned struct {
	net.Conn
	unread []byte // what has been read of it
}

func (c *returned) Read(p []byte) (int, error) {
	if len(c.unread) > 0 {
		n := copy(p, c.unread)
		c.unread = c.unread[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// NetConn is the connection beneath, once nothing is left of what was read of it here.
func (c *returned) NetConn() net.Conn {
	if len(c.unread) > 0 {
		return nil
	}
	return c.Conn
}

// Returned says whether a connection came back from here.
func Returned(c net.Conn) bool {
	_, ok := c.(*returned)
	return ok
}

// Suits says whether the connection of a request may come here when it has been
// answered: if requests like it would be carried out.
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

// Take takes over a connection that was hijacked from net/http after a request was read
// and carried out, and answers that. unread is what net/http has read behind it. If there is
// any, or the connection is not a plain socket, it goes straight to the exit.
//
// host is what that request named. Whether the caller may call can depend on it, so
// requests that name another are net/http's.
func (s *Server) Take(nc net.Conn, unread []byte, exit *Exit, host string, status int, answer []byte) {
	if _, err := nc.Write(appendAnswer(nil, status, new(clock).now(), answer)); err != nil {
		_ = nc.Close()
		return
	}
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

// clock is an HTTP-date (RFC 9110 section 5.6.7) that is put together once a second.
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
