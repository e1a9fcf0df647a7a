// Package stream writes to clients and notices when they leave. It has three kinds of
// [gateway.Stream]:
//
//   - detached: a plaintext HTTP/1.x socket on Linux, a Front's or taken over from net/http,
//     watched by one epoll set for all; no goroutine, written by the goroutine that sends.
//   - parked: any other HTTP/1.x connection (TLS, other systems), with a goroutine
//     parked in a read and one that writes.
//   - response: HTTP/2, where the handler's goroutine writes to its ResponseWriter.
//
// A Front accepts connections, and reads plain requests without net/http. HTTP/1.x connections
// of net/http are always taken over, since it notices a client that leaves only as long as
// that client has not sent a byte more than its request.
package stream

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"sync/atomic"
	"time"

	"ssegateway/internal/edge"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
)

// Opener opens the streams of accepted connections.
type Opener struct {
	detacher *detacher
	sockets  atomic.Int64
}

// NewOpener makes an Opener. Run must be called.
func NewOpener() (*Opener, error) {
	o := &Opener{}
	var err error
	o.detacher, err = newDetacher(&o.sockets)
	return o, err
}

// Run watches detached clients until ctx ends.
func (o *Opener) Run(ctx context.Context) error { return o.detacher.run(ctx) }

// Sockets returns the number of open HTTP/1.x streams.
func (o *Opener) Sockets() int { return int(o.sockets.Load()) }

// SetHeader sets the header fields of every event stream.
func SetHeader(h http.Header) {
	h["Content-Type"], h["Cache-Control"], h["X-Accel-Buffering"] = contentType, cacheControl, accelBuffering
}

// Values that all streams share.
var (
	contentType    = []string{"text/event-stream"}
	cacheControl   = []string{"no-cache, no-transform"}
	accelBuffering = []string{"no"}
)

// Open answers a request with the stream of a connection that the backend has
// accepted. Fields that the response's header holds already (CORS) are kept. For
// HTTP/2 it returns when the stream is over.
func (o *Opener) Open(w http.ResponseWriter, r *http.Request, c *gateway.Conn, g gateway.Grant) {
	SetHeader(w.Header())
	o.OpenAs(w, r, c, g)
}

// OpenAs is Open with the header fields that the response has already.
func (o *Opener) OpenAs(w http.ResponseWriter, r *http.Request, c *gateway.Conn, g gateway.Grant) {
	h := w.Header()
	h.Del("Connection") // appendHead writes it
	if r.ProtoMajor > 1 {
		serveResponse(w, r, c, g)
		return
	}
	if openFirst(w, c, g) {
		return
	}
	nc, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		c.Abort(gateway.Error, gateway.OpenFailed)
		return
	}
	defer func() { // net/http no longer closes it
		if v := recover(); v != nil {
			_ = nc.Close()
			panic(v)
		}
	}()
	o.open(nc, buffered, r, h, c, g)
}

func (o *Opener) open(nc net.Conn, buffered *bufio.ReadWriter, r *http.Request, h http.Header, c *gateway.Conn, g gateway.Grant) {
	accepted := edge.Of(nc)
	nc, unread := edge.HandOver(nc)
	if buffered.Reader.Buffered() > 0 || len(unread) > 0 {
		c.Abort(gateway.Error, gateway.UnexpectedData)
		_ = nc.Close()
		return
	}
	if accepted != nil && accepted.Trusted() {
		resetSocket(tcpOf(nc))
	}
	chunked := r.ProtoAtLeast(1, 1)
	head := frame.Head(appendHead(make([]byte, 0, headSize), h, chunked, chunked && !r.Close))
	if o.detacher.detach(nc, chunked, head, c, g) {
		return
	}
	if !c.Open(newParked(nc, chunked, c, &o.sockets), head, g) {
		_ = nc.Close()
	}
}

// headSize is enough for the usual head and the first bytes behind it.
const headSize = 384

// appendHead encodes the head of a stream's response (RFC 9112 section 2.1). Connection is
// what some clients expect of a stream, but for those who asked for its close (section 9.6).
func appendHead(b []byte, h http.Header, chunked, keepAlive bool) []byte {
	if chunked {
		b = append(b, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"...)
	} else {
		b = append(b, "HTTP/1.0 200 OK\r\n"...)
	}
	if keepAlive {
		b = append(b, "Connection: keep-alive\r\n"...)
	} else {
		b = append(b, "Connection: close\r\n"...)
	}
	if len(h["Date"]) == 0 {
		b = append(b, "Date: "...)
		b = time.Now().UTC().AppendFormat(b, http.TimeFormat)
		b = append(b, "\r\n"...)
	}
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range h[name] {
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, textproto.TrimString(value)...)
			b = append(b, "\r\n"...)
		}
	}
	return append(b, "\r\n"...)
}
