package edge

import (
	"bytes"
	"strconv"
)

// Refusal makes the whole answer, head and body, to a request that net/http refuses by itself,
// before any handler sees it. It gets net/http's status and words, and the request's Origin, ""
// if it has none or it is not seen.
type Refusal func(status int, words, origin string) []byte

// A refusal begins with a status line of HTTP/1: "HTTP/1.1 400 ".
const (
	refusalStart  = "HTTP/1."
	refusalStatus = len("HTTP/1.1 ")
)

// orRefusal writes p, or, if p is a refusal by net/http, the listener's form of it.
func (c *Conn) orRefusal(p []byte, write func([]byte) (int, error)) (int, error) {
	answer := c.refused(p)
	if answer == nil {
		return write(p)
	}
	if _, err := write(answer); err != nil {
		return 0, err
	}
	return len(p), nil
}

// refused returns the answer to send in place of p if p is a refusal by net/http, else nil.
// net/http writes each refusal in one piece.
func (c *Conn) refused(p []byte) []byte {
	if c.refusal == nil || len(p) < refusalStatus+3 || string(p[:len(refusalStart)]) != refusalStart || p[refusalStatus] < '4' || !c.isUnasked() {
		return nil
	}
	status, err := strconv.Atoi(string(p[refusalStatus : refusalStatus+3]))
	if err != nil {
		return nil
	}
	_, words, _ := bytes.Cut(p, []byte("\r\n\r\n"))
	return c.refusal(status, string(bytes.TrimSpace(words)), string(c.framing.origin))
}

// isUnasked reports whether no handler has been called since net/http began to wait for an
// HTTP/1 request. What is written meanwhile is not from a handler.
func (c *Conn) isUnasked() bool {
	c.edge.mu.Lock()
	defer c.edge.mu.Unlock()
	return !c.http2 && (c.idle || !c.requests)
}
