//go:build linux && !portable

package stream

import (
	"bytes"
	"io"
	"net/http"
	"time"

	"ssegateway/internal/epoll"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
)

// answer is the answer to a first request. It is a stream, or what the handler writes. That is sent when the handler is
// over, and the connection is closed behind it.
type answer struct {
	to     *newcomer
	header http.Header
	status int
	body   bytes.Buffer
	opened bool // the socket is a stream's
	silent bool // a stream was to be opened: nothing else is sent
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// openFirst makes the socket of a first request the stream of a connection. It returns false if w does not answer one.
func openFirst(w http.ResponseWriter, c *gateway.Conn, g gateway.Grant) bool {
	a := answerOf(w)
	if a == nil {
		return false
	}
	a.silent = true
	a.to.conn.Forget()
	s := &socket{d: a.to.front.d, conn: c, fd: a.to.fd, chunked: true, generation: a.to.generation}
	a.opened = s.open(frame.Head(appendHead(make([]byte, 0, headSize), w.Header(), true, true)), g)
	return true
}

// answerOf returns the answer that w writes to; nil if w is net/http's.
func answerOf(w http.ResponseWriter) *answer {
	for {
		switch over := w.(type) {
		case *answer:
			return over
		case interface{ Unwrap() http.ResponseWriter }:
			w = over.Unwrap()
		default:
			return nil
		}
	}
}

// serve runs the handler, and sends its answer.
func (c *newcomer) serve() {
	a := &answer{to: c, header: http.Header{}}
	defer func() {
		c.ctx.end(0, 0)
		v := recover()
		if !a.opened {
			if v == nil && !a.silent {
				a.send()
			}
			c.close()
		}
		if v != nil && v != http.ErrAbortHandler { //nolint:errorlint // it is thrown as it is
			panic(v)
		}
	}()
	c.front.cfg.Handler.ServeHTTP(a, c.request)
}

// send sends the answer with its body's length, as net/http does.
func (a *answer) send() {
	a.WriteHeader(http.StatusOK)
	a.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	r := http.Response{
		StatusCode: a.status, ProtoMajor: 1, ProtoMinor: 1, Header: a.header, Close: true,
		Body: io.NopCloser(&a.body), ContentLength: int64(a.body.Len()),
	}
	var b bytes.Buffer
	_ = r.Write(&b)                            // to memory
	_, _ = epoll.Send(int(a.to.fd), b.Bytes()) // it fits into the buffer of a socket that was not written to
	// The kernel resets a connection that is closed over bytes that nobody has read, and then the answer may be lost.
	var more [512]byte
	_, _ = epoll.Receive(int(a.to.fd), more[:])
}
