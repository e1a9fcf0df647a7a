package harness

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// startHTTP1 sends the request and reads the response in the background.
func startHTTP1(conn net.Conn, r Request) (*Exchange, error) {
	x := newExchange()
	c := &http1{conn: conn, x: x, method: r.Method, stopAfterHead: r.StopAfterHead}
	c.gate = sync.NewCond(&c.mu)
	x.link = c
	go c.read()
	if err := c.write([]byte(requestText(r))); err != nil && r.Raw == "" && r.Body == nil {
		c.hangUp()
		return nil, err // with a body the server may have answered before it has read all of it
	}
	return x, nil
}

func requestText(r Request) string {
	if r.Raw != "" {
		return r.Raw
	}
	var b strings.Builder
	proto := r.Proto
	if proto == "" {
		proto = "HTTP/1.1"
	}
	fmt.Fprintf(&b, "%s %s %s\r\nHost: %s\r\n", r.Method, r.Target, proto, r.Host)
	framed := r.Body == nil
	for _, f := range r.Header {
		framed = framed || strings.EqualFold(f.Name, "Transfer-Encoding") || strings.EqualFold(f.Name, "Content-Length")
		fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
	}
	if !framed {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(r.Body))
	}
	b.WriteString("\r\n")
	b.Write(r.Body)
	b.WriteString(r.Extra)
	return b.String()
}

// http1 is a connection with one exchange on it.
type http1 struct {
	conn          net.Conn
	x             *Exchange
	method        string
	stopAfterHead bool

	mu      sync.Mutex
	gate    *sync.Cond
	stopped bool
	quota   int  // bytes that may be read although stopped
	closed  bool // by this side
}

// read reads the response until it ends.
func (c *http1) read() {
	var (
		buffer   = make([]byte, 32<<10)
		received []byte // up to the end of the head
		body     *http1Body
	)
	for {
		n, err := c.readSome(buffer)
		data := buffer[:n]
		if n > 0 {
			c.x.gotBytes(n)
		}
		if body == nil && n > 0 {
			received = append(received, data...)
			end := bytes.Index(received, []byte("\r\n\r\n"))
			if end < 0 {
				data = nil
			} else {
				head, parseErr := parseHead(string(received[:end]))
				if parseErr == nil {
					body, parseErr = newHTTP1Body(c.method, head)
				}
				if parseErr != nil {
					c.x.gotEnd(Malformed, parseErr)
					return
				}
				if c.stopAfterHead {
					c.stop()
				}
				c.x.gotHead(head)
				data = received[end+4:]
			}
		}
		if body != nil && body.take(c.x, data) {
			return
		}
		if err != nil {
			if body == nil {
				c.x.gotEnd(Cut, fmt.Errorf("%w after %.60q", err, received))
			} else {
				c.x.gotEnd(body.endBy(err), fmt.Errorf("%w%s", err, body.where()))
			}
			return
		}
	}
}

func (c *http1) readSome(b []byte) (int, error) {
	c.mu.Lock()
	for c.stopped && c.quota == 0 && !c.closed {
		c.gate.Wait()
	}
	limited := c.stopped && c.quota > 0
	if limited {
		b = b[:min(len(b), c.quota)]
	}
	c.mu.Unlock()
	n, err := c.conn.Read(b)
	if limited {
		c.mu.Lock()
		c.quota = max(0, c.quota-n)
		c.mu.Unlock()
	}
	return n, err
}

// parseHead parses a response head strictly. The head comes without its last empty line.
func parseHead(text string) (*Head, error) {
	lines := strings.Split(text, "\r\n")
	proto, rest, _ := strings.Cut(lines[0], " ")
	code, _, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if err != nil || len(code) != 3 || proto != "HTTP/1.1" && proto != "HTTP/1.0" {
		return nil, fmt.Errorf("not a status line: %.60q", lines[0])
	}
	head := &Head{Proto: proto, Status: status}
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t") || strings.ContainsAny(line, "\r\n") {
			return nil, fmt.Errorf("not a header line: %.60q", line)
		}
		head.Header = append(head.Header, Field{name, strings.Trim(value, " \t")})
	}
	return head, nil
}

// http1Body parses a body with the framing that the head declares.
type http1Body struct {
	chunks    *chunkParser // nil: not chunked
	remaining int          // of the Content-Length; -1: there is none
}

func newHTTP1Body(method string, head *Head) (*http1Body, error) {
	b := &http1Body{remaining: -1}
	coding, lengths := head.Get("Transfer-Encoding"), head.Values("Content-Length")
	switch {
	case method == http.MethodHead || head.Status == http.StatusNoContent || head.Status == http.StatusNotModified:
		b.remaining = 0
	case coding != "" && (coding != "chunked" || len(lengths) > 0 || head.Proto != "HTTP/1.1"):
		return nil, fmt.Errorf("%s with Transfer-Encoding %q and Content-Length %q", head.Proto, coding, lengths)
	case coding != "":
		b.chunks = new(chunkParser)
	case len(lengths) > 0:
		n, err := strconv.Atoi(lengths[0])
		if err != nil || n < 0 || len(lengths) > 1 {
			return nil, fmt.Errorf("bad Content-Length %q", lengths)
		}
		b.remaining = n
	}
	return b, nil
}

// take adds received bytes to the exchange, and returns whether it is over.
func (b *http1Body) take(x *Exchange, data []byte) (over bool) {
	switch {
	case b.chunks != nil:
		chunks, err := b.chunks.feed(data)
		for _, chunk := range chunks {
			x.gotPiece(chunk)
		}
		if err != nil {
			x.gotEnd(Malformed, err)
			return true
		}
		if b.chunks.done {
			x.gotEnd(Clean, nil)
		}
		return false // read on until FIN, so that bytes after the last chunk are noticed
	case b.remaining >= 0:
		if len(data) > b.remaining {
			x.gotEnd(Malformed, fmt.Errorf("body is longer than its Content-Length: %.60q", data))
			return true
		}
		b.remaining -= len(data)
	}
	if len(data) > 0 {
		x.gotPiece(data)
	}
	if b.remaining == 0 {
		x.gotEnd(Clean, nil)
		return true
	}
	return false
}

// endBy returns the kind of end that a failed read means.
func (b *http1Body) endBy(err error) End {
	if b.chunks == nil && b.remaining < 0 && errors.Is(err, io.EOF) {
		return Clean
	}
	return Cut
}

func (b *http1Body) where() string {
	if b.chunks != nil && b.chunks.inChunk() {
		return " inside a chunk"
	}
	return ""
}

func (c *http1) leave() { c.hangUp() }

func (c *http1) hangUp() {
	c.mu.Lock()
	c.closed = true
	c.gate.Broadcast()
	c.mu.Unlock()
	c.conn.Close()
}

func (c *http1) halfClose() error {
	return c.conn.(interface{ CloseWrite() error }).CloseWrite()
}

func (c *http1) reset() error {
	defer c.hangUp()
	return resetOnClose(c.conn)
}

func (c *http1) write(b []byte) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(dialPatience)); err != nil {
		return err
	}
	_, err := c.conn.Write(b)
	return err
}

func (c *http1) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
}

func (c *http1) take(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.quota += n
	c.gate.Broadcast()
}

func (c *http1) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped, c.quota = false, 0
	c.gate.Broadcast()
}

// resetOnClose closes the TCP connection, below TLS if there is any, with an RST.
func resetOnClose(conn net.Conn) error {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return errors.New("not a TCP connection")
	}
	if err := tcp.SetLinger(0); err != nil {
		return err
	}
	return tcp.Close()
}
