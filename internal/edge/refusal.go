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

// refused is what goes out in place of p, where p is a refusal of net/http's own; else nil.
// net/http writes each in one piece. Over TLS only the one to a peer that speaks without it is
// seen here.
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

// isUnasked reports whether no handler has been asked since net/http began to wait for a request
// of HTTP/1: whatever is written then is not a handler's.
func (c *Conn) isUnasked() bool {
	c.edge.mu.Lock()
	defer c.edge.mu.Unlock()
	return !c.http2 && (c.idle || !c.requests)
}
