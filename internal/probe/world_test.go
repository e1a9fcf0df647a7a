package probe

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"ssegateway/internal/operator"
)

// world is a gateway and a proxy in front of it, on a network in memory, for a bubble.
type world struct {
	t       *testing.T
	gateway *fakeGateway
	network network
	back    *http.Transport // from the proxy to the gateway
	servers []*http.Server
}

// network has listeners by the address at which they are dialled.
type network struct {
	mu sync.Mutex
	at map[string]*listener
}

type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func (n *network) listen(addr string) *listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.at == nil {
		n.at = map[string]*listener{}
	}
	l := &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
	n.at[addr] = l
	return l
}

func (n *network) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.at[addr]
	n.mu.Unlock()
	if l == nil {
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	select {
	case l.conns <- addressed{theirs}:
		return ours, nil
	case <-l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// addressed is a connection whose peer has an address, which a proxy puts into X-Forwarded-For.
type addressed struct{ net.Conn }

func (addressed) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4711} }

// newWorld runs a gateway.
func newWorld(t *testing.T) *world {
	w := &world{t: t, gateway: &fakeGateway{conns: map[string]*fakeConn{}, heartbeat: 15 * time.Second, topics: []string{"room.7"}}}
	w.back = &http.Transport{DialContext: w.network.dial, DisableCompression: true}
	w.serve("gateway:80", w.gateway, nil)
	return w
}

func (w *world) serve(addr string, h http.Handler, secured *tls.Config) {
	s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0), TLSConfig: secured, Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(secured != nil && len(secured.NextProtos) != 1)
	w.servers = append(w.servers, s)
	l := w.network.listen(addr)
	if secured != nil {
		go func() { _ = s.ServeTLS(l, "", "") }()
		return
	}
	go func() { _ = s.Serve(l) }()
}

func (w *world) close() {
	for _, s := range w.servers {
		s.Close()
	}
	w.back.CloseIdleConnections()
	time.Sleep(2 * time.Hour) // fake clock: proxies that sleep wake up, and see it
}

// forward returns a proxy without faults, but that it denies nothing.
func (w *world) forward() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport: w.back, ErrorLog: log.New(io.Discard, "", 0), FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: "gateway:80"})
			r.SetXForwarded()
		},
	}
}

// guarded denies the gateway's own paths, in whatever spelling.
func guarded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		target := r.RequestURI
		for range 3 {
			if decoded, err := url.PathUnescape(target); err == nil {
				target = decoded
			}
		}
		if target = strings.ToLower(target); strings.Contains(target, "internal") || strings.Contains(target, "metrics") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// filtered is a proxy that does this to the bodies of answers.
func (w *world) filtered(filter func(io.Reader) io.Reader) http.Handler {
	p := w.forward()
	p.ModifyResponse = func(r *http.Response) error {
		body := r.Body
		r.Body = struct {
			io.Reader
			io.Closer
		}{filter(body), body}
		return nil
	}
	return guarded(p)
}

// changed is a proxy that changes requests.
func (w *world) changed(change func(*http.Request)) http.Handler {
	p := w.forward()
	rewrite := p.Rewrite
	p.Rewrite = func(r *httputil.ProxyRequest) {
		rewrite(r)
		change(r.Out)
	}
	return guarded(p)
}

// fakeGateway is what the probe needs of a gateway, on the clock of a bubble.
type fakeGateway struct {
	heartbeat time.Duration
	topics    []string
	shows     bool                     // the request of a connection
	accept    func(*http.Request) int  // nil: all
	relay     bool                     // its streams are an application's
	opened    func(token, path string) // if set, called with each connection

	mu    sync.Mutex
	conns map[string]*fakeConn
	made  int
}

type fakeConn struct {
	token, path, agent string
	queue              chan piece
	end                chan struct{}
	once               sync.Once // closes end
	gone               chan struct{}
	bytes              int // guarded by the gateway's mu
}

type piece struct {
	text    string
	written chan struct{}
}

const statistics = `{"node":"n","connections":{},"streams_opened":1,"log":{}}`

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"message":"no","code":%q}}`, code)
}

func (g *fakeGateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	target, _, _ := strings.Cut(r.RequestURI, "?")
	switch {
	case target == "/metrics", strings.HasPrefix(target, "/internal/"):
		switch {
		case r.Header.Get("X-Forwarded-For") != "":
			refuse(w, http.StatusForbidden, "INTERNAL_FORBIDDEN")
		case target == "/metrics":
			_, _ = io.WriteString(w, "# HELP\nssegateway_connections 1\n")
		default:
			_, _ = io.WriteString(w, statistics)
		}
		return
	case r.Method != http.MethodGet:
		refuse(w, http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED")
		return
	case r.ContentLength != 0:
		refuse(w, http.StatusBadRequest, "BODY_NOT_ALLOWED")
		return
	}
	if g.accept != nil {
		if status := g.accept(r); status != http.StatusOK {
			refuse(w, status, "BACKEND_ERROR")
			return
		}
	}
	c := g.add(target, r.UserAgent())
	defer g.remove(c)
	h := w.Header()
	for name, value := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"} {
		h.Set(name, value)
	}
	id := r.Header.Get("Last-Event-ID")
	if id == "" {
		id = r.URL.Query().Get("lastEventId")
	}
	begin := ": heartbeat\n\n"
	if len(g.topics) > 0 {
		if begin = "id: E-1\n\n"; id != "" {
			begin = fmt.Sprintf("event: gap\nid: E-1\ndata: {\"last_event_id\":%q}\n\n", id)
		}
	}
	g.run(w, r, c, begin)
}

func (g *fakeGateway) run(w http.ResponseWriter, r *http.Request, c *fakeConn, begin string) {
	rc := http.NewResponseController(w)
	write := func(p piece) bool {
		_, err := io.WriteString(w, p.text)
		if err == nil {
			err = rc.Flush()
		}
		g.mu.Lock()
		c.bytes += len(p.text)
		g.mu.Unlock()
		if p.written != nil {
			close(p.written)
		}
		return err == nil
	}
	ticker := time.NewTicker(g.heartbeat)
	defer ticker.Stop()
	for ok := write(piece{text: begin}); ok; {
		select {
		case p := <-c.queue:
			ok = write(p)
		case <-ticker.C:
			ok = write(piece{text: ": heartbeat\n\n"})
		case <-c.end:
			for len(c.queue) > 0 {
				write(<-c.queue)
			}
			return
		case <-r.Context().Done():
			return
		}
	}
}

func (g *fakeGateway) add(path, agent string) *fakeConn {
	g.mu.Lock()
	g.made++
	c := &fakeConn{
		token: fmt.Sprintf("token-%d", g.made), path: path, agent: agent,
		queue: make(chan piece, 4096), end: make(chan struct{}), gone: make(chan struct{}),
	}
	g.conns[c.token] = c
	g.mu.Unlock()
	if g.opened != nil {
		g.opened(c.token, path)
	}
	return c
}

func (g *fakeGateway) remove(c *fakeConn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c.token)
	close(c.gone)
}

// Call implements API.
func (g *fakeGateway) Call(ctx context.Context, method, path string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	got, err := g.call(ctx, method, path, text)
	if err != nil {
		return err
	}
	if text, err = json.Marshal(got); err != nil {
		return err
	}
	return json.Unmarshal(text, answer)
}

var errGone = &operator.Error{Code: "TOKEN_NOT_FOUND", Message: "Token not found"}

func (g *fakeGateway) call(ctx context.Context, method, path string, body []byte) (any, error) {
	g.mu.Lock()
	conns := maps.Clone(g.conns)
	g.mu.Unlock()
	if path == "/internal/stats" {
		return json.RawMessage(statistics), nil
	}
	if strings.HasPrefix(path, "/internal/connections?") {
		list := []map[string]any{}
		for _, c := range conns {
			list = append(list, g.show(c, false))
		}
		return map[string]any{"connections": list}, nil
	}
	if token, ok := strings.CutPrefix(path, "/internal/connections/"); ok {
		c := conns[token]
		if c == nil {
			return nil, errGone
		}
		if method == http.MethodDelete {
			c.once.Do(func() { close(c.end) })
		}
		return g.show(c, true), nil
	}
	var q struct {
		Token string
		Event struct{ Name, Data string }
		Wait  string
	}
	if path != "/internal/send" || json.Unmarshal(body, &q) != nil {
		return nil, fmt.Errorf("%s %s is not in this fake", method, path)
	}
	c := conns[q.Token]
	if c == nil {
		return nil, errGone
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "event: %s\n", q.Event.Name)
	for line := range strings.SplitSeq(q.Event.Data, "\n") {
		fmt.Fprintf(&text, "data: %s\n", line)
	}
	p := piece{text: text.String() + "\n"}
	if q.Wait != "" {
		p.written = make(chan struct{})
	}
	c.queue <- p
	if q.Wait != "" {
		select {
		case <-p.written:
		case <-c.gone:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return struct{}{}, nil
}

func (g *fakeGateway) show(c *fakeConn, whole bool) map[string]any {
	g.mu.Lock()
	shown := map[string]any{"token": c.token, "state": "open", "path": c.path, "topics": g.topics, "bytes_written": c.bytes}
	g.mu.Unlock()
	if g.relay {
		shown["kind"] = relayed
	}
	if g.shows && whole {
		shown["request"] = map[string]any{"headers": map[string]string{"user-agent": c.agent}}
	}
	return shown
}

// certified makes a certificate for the host "public", valid on the clock of a bubble, and who trusts it.
func certified(t *testing.T, protocols ...string) (server *tls.Config, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"public"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: protocols}, roots
}
