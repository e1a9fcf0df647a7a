package stream_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ssegateway/internal/broker"
	"ssegateway/internal/edge"
	"ssegateway/internal/gateway"
	"ssegateway/internal/stream"
	"ssegateway/internal/topics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// protocol is what a client speaks.
type protocol string

const (
	http11 protocol = "HTTP 1.1" // detached, or parked with the build tag portable
	http10 protocol = "HTTP 1.0"
	front  protocol = "HTTP 1.1 behind a front" // whose request a Front reads, or net/http with the build tag portable
	https1 protocol = "HTTP 1.1 over TLS"       // parked
	https2 protocol = "HTTP 2"                  // response
)

var protocols = []protocol{http11, http10, front, https1, https2}

// patience bounds every wait, so that what hangs is told.
const patience = time.Minute

// site is a gateway that streams over real sockets.
type site struct {
	gw     *gateway.Gateway
	opener *stream.Opener
	addr   string

	listener net.Listener
	conns    atomic.Int64 // that net/http has

	// handler is that of an accepted or refused connection, see serve.
	handler atomic.Pointer[http.HandlerFunc]
}

// serve sets the handler of the requests to come.
func (s *site) serve(f http.HandlerFunc) { s.handler.Store(&f) }

// newSite starts a site, which is stopped when the test is over.
func newSite(t testing.TB, p protocol, backend gateway.Backend, change func(cfg *gateway.Config)) *site {
	t.Helper()
	cfg := gateway.Config{
		Heartbeat: time.Second, MaxConnections: 1 << 20, QueueBytes: 1 << 20, BudgetBytes: 1 << 27,
		Topics: topics.New(broker.NewMemory(64<<20, time.Hour), false), Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	s := &site{gw: gateway.New(cfg, backend)}
	s.serve(s.openStream)
	var err error
	if s.opener, err = stream.NewOpener(); err != nil {
		t.Fatal(err)
	}
	lc := stream.ListenConfig()
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.listener, s.addr = l, l.Addr().String()
	server := &http.Server{
		Handler:     http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*s.handler.Load())(w, r) }),
		ErrorLog:    log.New(io.Discard, "", 0),
		ConnContext: stream.WithTransport,
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				s.conns.Add(1)
			case http.StateClosed, http.StateHijacked:
				s.conns.Add(-1)
			case http.StateActive, http.StateIdle:
			}
		},
	}
	none := func() int { return 0 }
	edges := edge.New(edge.Config{Limit: 1 << 20, Streams: none, Senders: none, Log: slog.New(slog.DiscardHandler)})
	if p == front {
		l = edges.Listen(s.opener.Front(l, stream.FrontConfig{
			Edge: edges, Handles: func(string) bool { return true }, Handler: server.Handler,
		}), edge.Plain, nil)
	}
	if p.isSecure() {
		l = edges.ListenTLS(l, &tls.Config{Certificates: []tls.Certificate{newCertificate(t)}, NextProtos: []string{p.alpn()}}, nil)
	}

	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = s.gw.Run(ctx) })
	running.Go(func() { _ = s.opener.Run(ctx) })
	running.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		_ = server.Close()
		stop()
		running.Wait()
	})
	return s
}

func (p protocol) isSecure() bool { return p == https1 || p == https2 || p == https2windows }

func (p protocol) alpn() string {
	if p == https2 || p == https2windows {
		return "h2"
	}
	return "http/1.1"
}

// openStream is a handler that opens every stream.
func (s *site) openStream(w http.ResponseWriter, r *http.Request) {
	c, a, err := s.gw.Connect(r.Context(), []byte(`{"url":"`+r.RequestURI+`","headers":{}}`))
	if err != nil || a.Outcome != gateway.Accepted || c.State() != gateway.Pending {
		refuse(w)
		return
	}
	s.opener.Open(w, r, c, gateway.Grant{})
}

// settle takes no more clients, and waits until the site has nothing to do with
// those that there were.
func (s *site) settle(t testing.TB) {
	t.Helper()
	_ = s.listener.Close()
	stats := s.gw.Stats()
	wait(t, "every connection ends", func() bool {
		return s.conns.Load() == 0 && stats.Pending.Load() == 0 && stats.Open.Load() == 0 &&
			s.gw.QueuedBytes() == 0 && s.opener.Sockets() == 0
	})
}

// refuse answers a client that gets no stream, and lets it go.
func refuse(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	w.WriteHeader(http.StatusServiceUnavailable)
}

func newCertificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// client is one that has asked for a stream.
type client struct {
	tcp   *net.TCPConn
	conn  net.Conn // tcp, or TLS on it
	reset func()   // of an HTTP/2 stream

	over chan struct{} // closed when nothing more can come
	// To be looked at when it is over.
	status  int
	chunked bool
	body    []byte
	end     error // io.EOF if that was orderly

	windows bool // it is slow, if at all, by its HTTP/2 windows

	mu      sync.Mutex
	gate    *sync.Cond
	paused  bool
	pace    pace
	beneath pace // beneath TLS
}

// pace is how fast a slow client reads; the zero pace is as fast as it can.
type pace struct {
	bytes int
	every time.Duration
}

// dial connects a client and begins its request. receive is the size of its
// socket's buffer, or 0.
func dial(ctx context.Context, p protocol, addr, path string, receive int) (*client, error) {
	d := net.Dialer{Timeout: patience}
	if receive > 0 {
		d.Control = func(_, _ string, raw syscall.RawConn) error { return setReceiveBuffer(raw, receive) }
	}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &client{over: make(chan struct{})}
	c.gate = sync.NewCond(&c.mu)
	c.tcp, _ = nc.(*net.TCPConn)
	c.conn = &beneath{TCPConn: c.tcp, c: c}
	if p.isSecure() {
		secure := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{p.alpn()}})
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = nc.Close()
			return nil, err
		}
		c.conn = secure
	}
	if p == https2windows {
		c.windows = true
		err := c.request2windows(addr, path)
		return c, err
	}
	if p == https2 {
		err := c.request2(ctx, addr, path)
		return c, err
	}
	version := "1.1"
	if p == http10 {
		version = "1.0"
	}
	if _, err := fmt.Fprintf(c.conn, "GET %s HTTP/%s\r\nHost: test\r\n\r\n", path, version); err != nil {
		_ = c.conn.Close()
		return nil, err
	}
	go c.read1()
	return c, nil
}

// read1 reads an HTTP/1 response to its end.
func (c *client) read1() {
	defer close(c.over)
	r := bufio.NewReader(gated{c, c.conn})
	status, err := r.ReadString('\n')
	if fields := strings.Fields(status); len(fields) > 1 {
		c.status, _ = strconv.Atoi(fields[1])
	}
	for line := ""; err == nil && line != "\r\n"; {
		line, err = r.ReadString('\n')
		c.chunked = c.chunked || line == "Transfer-Encoding: chunked\r\n"
	}
	if err == nil {
		err = c.readBody(r)
	}
	c.end = err
}

// readBody reads to the end and says which it was.
func (c *client) readBody(r io.Reader) error {
	var b bytes.Buffer
	_, err := b.ReadFrom(r)
	c.body = b.Bytes()
	if err == nil {
		err = io.EOF
	}
	return err
}

// request2 makes an HTTP/2 request on a connection of its own.
func (c *client) request2(ctx context.Context, addr, path string) error {
	transport := &http.Transport{
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return c.conn, nil },
		Protocols:      new(http.Protocols),
		HTTP2:          &http.HTTP2Config{MaxReceiveBufferPerStream: 1 << 16, MaxReceiveBufferPerConnection: 1 << 16},
	}
	transport.Protocols.SetHTTP2(true)
	ctx, c.reset = context.WithCancel(ctx)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+addr+path, http.NoBody)
	if err != nil {
		return err
	}
	go func() {
		defer close(c.over)
		defer transport.CloseIdleConnections()
		defer c.reset()
		response, err := transport.RoundTrip(r)
		if err != nil {
			c.end = err
			return
		}
		defer response.Body.Close()
		c.status = response.StatusCode
		c.end = c.readBody(gated{c, response.Body})
	}()
	return nil
}

// gated is a reader that waits while its client is paused.
type gated struct {
	c *client
	r io.Reader
}

func (g gated) Read(p []byte) (int, error) {
	g.c.mu.Lock()
	for g.c.paused {
		g.c.gate.Wait()
	}
	pace := g.c.pace
	g.c.mu.Unlock()
	if pace.bytes > 0 {
		<-time.After(pace.every)
		p = p[:min(len(p), pace.bytes)]
	}
	return g.r.Read(p)
}

// pause makes the client stop reading, or go on.
func (c *client) pause(paused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = paused
	c.gate.Broadcast()
}

// slow makes the client read slowly from now on.
func (c *client) slow(p pace) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pace = p
}

// abort resets the connection.
func (c *client) abort() {
	_ = c.tcp.SetLinger(0)
	_ = c.tcp.Close()
}

// halfClose sends a FIN, and goes on reading.
func (c *client) halfClose() {
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// wait waits until f holds, which other goroutines or the kernel bring about.
func wait(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for !f() {
		select {
		case <-deadline:
			t.Fatalf("in vain: %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}

// await waits for a channel that is to be closed.
func await(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("in vain: %s", what)
	}
}
