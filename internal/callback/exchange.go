package callback

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

var (
	errTooLong   = errors.New("the answer is too long")
	errCut       = errors.New("the answer was cut")
	errMalformed = errors.New("the answer is not HTTP")
	errTimeout   = errors.New("no answer in time")
	errBroken    = errors.New("the connection broke before an answer")

	errCertificate        = errors.New("the backend asks for a TLS client certificate, and the gateway has none to give: set BACKEND_CLIENT_CERT_FILE")
	errCertificateRefused = errors.New("the backend refuses the TLS client certificate of BACKEND_CLIENT_CERT_FILE")
	errGrantTooLong       = errors.New("its body is larger than 1 MiB")
	errBodyTimeout        = errors.New("its body did not come in time")
)

// reply is the outcome of a callback. If there is an answer, finish must be called.
type reply struct {
	status int // of the answer; 0: none
	// Without an answer:
	err  error // free of the URL and of what the backend sent
	sent bool  // the backend may have received the callback
	late bool  // no answer because the time ran out or ctx ended

	conn     *conn
	response *http.Response
	keep     bool // the connection can be used again once the body is read
}

func (r *reply) ok() bool { return 200 <= r.status && r.status <= 299 }

// exchange sends a message and reads the head of the answer.
//
// It starts over, on a new connection, in one case only: the backend closed the
// connection as the callback set out, and cannot have acted on it. That is no retry: the
// backend sees the callback once.
func (c *Client) exchange(ctx context.Context, deadline time.Time, message []byte) reply {
	r, again := c.attempt(ctx, deadline, message, false)
	for n := 1; again && n < maxConnections; n++ {
		r, again = c.attempt(ctx, deadline, message, true)
	}
	return r
}

// maxConnections bounds how many connections one callback may be begun on. Two suffice
// unless the backend closes even new ones, for example while it restarts.
const maxConnections = 3

func (c *Client) attempt(ctx context.Context, deadline time.Time, message []byte, fresh bool) (r reply, again bool) {
	conn, err := c.pool.get(ctx, deadline, fresh)
	if err != nil {
		return reply{err: err, late: ctx.Err() != nil || isTimeout(err)}, false
	}
	_ = conn.SetDeadline(deadline) // if this fails, the write fails too
	stop := func() bool { return true }
	if ctx.Done() != nil {
		stop = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(longAgo) })
	}

	before := *conn.written
	started := time.Now()
	_, writeErr := conn.Write(message)
	// A backend may refuse a callback before it has read all of it: after a failed write
	// there may still be an answer. If nothing was written there is none.
	var response *http.Response
	err = writeErr
	if err == nil || *conn.written > before && !isTimeout(err) {
		conn.limit.left = headLimit + bodyLimit
		response, err = readHead(conn, posted, nil) //nolint:bodyclose // finish reads it; the body's own Close would wait for all of it
	}
	stopped := stop() // if not, the deadline of longAgo may still be on its way
	if err == nil {
		return reply{
			status: response.StatusCode, response: response, conn: conn,
			keep: stopped && writeErr == nil && !response.Close,
		}, false
	}

	defer conn.raw.Close() // without TLS's close_notify, which might block
	if ctx.Err() != nil || isTimeout(err) {
		return reply{err: errTimeout, late: true, sent: *conn.written > before}, false
	}
	if errors.Is(err, errMalformed) || errors.Is(err, errTooLong) || errors.Is(err, errCut) {
		return reply{err: err, sent: true}, false
	}
	if refused := conn.demand.refusal(); refused != nil && isAlert(err) {
		return reply{err: refused, sent: *conn.written > before}, false
	}
	soon := time.Since(started) < staleWindow
	f := conn.fate(before, err)
	again = f == untouched || f == unread && conn.reused && soon
	return reply{err: errBroken, sent: f != untouched}, again
}

// Variables, because tests on busy machines need longer ones.
var (
	// staleWindow is how soon after a callback was sent a reset must come to count as the
	// backend's close of an idle connection, crossing with the callback.
	staleWindow = 500 * time.Millisecond
	// endWait is how long to wait for the end of a connection that the backend is closing.
	endWait = 250 * time.Millisecond
)

// fate is how far a callback got whose connection ended before any byte of an answer.
type fate uint8

const (
	// unknown: the backend may have read it.
	unknown fate = iota
	// untouched: no byte of it was received before the backend closed the connection.
	untouched
	// unread: the backend's host reset the connection, as a host does if the
	// connection is closed with bytes left unread, or is unknown to it. A backend that had
	// acted on the callback would have read all of it. A crash can look the same, so this is
	// less certain than untouched.
	unread
)

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

// The head of the request that an answer is to, for the parser: a POST's answer has a body.
var posted = &http.Request{Method: http.MethodPost}

// readHead reads up to the head of the final answer to a request. interim, if not nil, gets each answer before it.
func readHead(c *conn, to *http.Request, interim func(*http.Response)) (*http.Response, error) {
	// Distinguishes a connection that ended before an answer from an answer that was cut.
	if _, err := c.in.Peek(1); err != nil {
		return nil, err
	}
	if to == posted {
		if r := plainAnswer(c.in); r != nil {
			return r, nil
		}
	}
	for {
		response, err := http.ReadResponse(c.in, to)
		switch {
		case err == nil:
		case isTimeout(err), errors.Is(err, errTooLong):
			return nil, err
		case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, new(*net.OpError)):
			return nil, errCut
		default:
			return nil, errMalformed // the parser's error quotes the answer
		}
		switch {
		case response.StatusCode >= 200 && response.StatusCode <= 999:
			return response, nil
		case response.StatusCode < 100 || response.StatusCode == http.StatusSwitchingProtocols:
			return nil, errMalformed
		case interim != nil:
			interim(response)
		}
	}
}

// atHand reports whether the rest of the answer can be read without waiting.
func (r *reply) atHand() bool {
	waiting, _ := r.conn.in.Peek(r.conn.in.Buffered())
	if n := r.response.ContentLength; n >= 0 {
		return int64(len(waiting)) >= n || n > bodyLimit
	}
	// Chunked: bytes that end like the last chunk most probably are it. A wrong guess
	// costs only a wait.
	return len(r.response.TransferEncoding) > 0 && bytes.HasSuffix(waiting, lastChunk)
}

var lastChunk = []byte("0\r\n\r\n")

// finish reads the rest of the answer, only so that the connection can be used again. It
// waits for it until the deadline of the attempt.
func (c *Client) finish(r *reply) {
	read := func() {
		if r.keep = r.keep && r.skipBody(); r.keep {
			c.pool.put(r.conn)
		} else {
			r.conn.raw.Close()
		}
	}
	if r.atHand() {
		read()
	} else if !c.pool.drain(r.conn, read) {
		r.conn.raw.Close()
	}
}

// chunkCost is what a byte takes in a chunk of its own, "1\r\nx\r\n": some backends write
// their JSON token by token.
const chunkCost = 6

// body is finish for the body of an acceptance, which it returns if it came in whole, by
// the deadline and before ctx ended.
func (c *Client) body(ctx context.Context, r *reply) (body []byte, err error) {
	stop := func() bool { return true }
	n := r.response.ContentLength
	if n < 0 || n > int64(r.conn.in.Buffered()) { // otherwise nothing is waited for
		stop = context.AfterFunc(ctx, func() { r.conn.SetDeadline(longAgo) })
	}
	r.conn.limit.left = chunkCost*grantLimit + bodyLimit
	switch {
	case n > grantLimit:
		err = errGrantTooLong
	case n >= 0:
		body = make([]byte, n)
		_, err = io.ReadFull(r.response.Body, body)
	default:
		body, err = io.ReadAll(io.LimitReader(r.response.Body, grantLimit+1))
		if len(body) > grantLimit {
			err = errGrantTooLong
		}
	}
	if err != nil && !errors.Is(err, errGrantTooLong) {
		err = bodyError(err)
	}
	if stop() && err == nil && r.keep && r.conn.in.Buffered() == 0 {
		c.pool.put(r.conn)
	} else {
		r.conn.raw.Close()
	}
	if err != nil {
		return nil, err
	}
	return body, nil
}

// bodyError returns the error of a failed read of a body, without quoting the body.
func bodyError(err error) error {
	switch {
	case isTimeout(err):
		return errBodyTimeout
	case errors.Is(err, errTooLong):
		return errGrantTooLong
	case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, new(*net.OpError)):
		return errCut
	default:
		return errMalformed
	}
}

// skipBody reports whether the body ended where the connection can be used again.
func (r *reply) skipBody() bool {
	n := r.response.ContentLength
	if n > bodyLimit {
		return false
	}
	if n >= 0 {
		if _, err := r.conn.in.Discard(int(n)); err != nil {
			return false
		}
	} else if m, err := io.CopyN(io.Discard, r.response.Body, bodyLimit+1); m > bodyLimit || !errors.Is(err, io.EOF) {
		return false
	}
	return r.conn.in.Buffered() == 0
}
