package vanish

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/netns"
)

const heartbeat = 2 * time.Second

// kind is a kind of stream in the gateway, or a stream through a proxy.
type kind struct {
	name     string // in URLs
	protocol harness.Protocol
	gateway  func(*site) *gateway
	proxy    func(*site) harness.Endpoint // nil: none
}

var kinds = []kind{
	{name: "detached", protocol: harness.HTTP1, gateway: func(s *site) *gateway { return s.plain }},
	{name: "portable", protocol: harness.HTTP1, gateway: func(s *site) *gateway { return s.portable }},
	{name: "TLS", protocol: harness.HTTP1TLS, gateway: func(s *site) *gateway { return s.secure }},
	{name: "HTTP-2", protocol: harness.HTTP2TLS, gateway: func(s *site) *gateway { return s.secure }},
	{name: "h2c", protocol: harness.H2C, gateway: func(s *site) *gateway { return s.plain }},
	{
		name: "nginx", protocol: harness.HTTP1, gateway: func(s *site) *gateway { return s.plain },
		proxy: func(s *site) harness.Endpoint { return s.nginx.Endpoint },
	},
}

// isHTTP2 reports whether several streams share a connection.
func (k kind) isHTTP2() bool { return k.protocol == harness.HTTP2TLS || k.protocol == harness.H2C }

func (k kind) endpoint(s *site) harness.Endpoint {
	if k.proxy != nil {
		return k.proxy(s)
	}
	return s.endpoint(k.gateway(s).Port, k.protocol)
}

// kindOf returns the kind of a stream by its URL, which begins with the kind's name.
func kindOf(url string) kind {
	for _, k := range kinds {
		if strings.HasPrefix(url, "/"+k.name+"/") {
			return k
		}
	}
	panic("no kind has the URL " + url)
}

// gateway is a gateway on a host of its own.
type gateway struct {
	*harness.Process
	internal string // address of INTERNAL_ADDR
}

// site is three gateways, a proxy, and their backend. The proxy is on the clients' host.
type site struct {
	t       *testing.T
	backend *harness.Backend
	cert    *harness.Certificate
	nginx   *harness.Proxy
	http    *http.Client

	plain    *gateway // HTTP/1.1 and h2c
	portable *gateway // the same, without detached sockets
	secure   *gateway // TLS
}

// builds are the gateway's programs. They are in a folder that is removed with the namespaces.
var builds = sync.OnceValues(func() (programs [2]string, err error) {
	for i, flags := range [][]string{nil, {"-tags=portable"}} {
		dir := fmt.Sprintf("/run/build%d", i)
		if err := os.Mkdir(dir, 0o700); err != nil {
			return programs, err
		}
		if programs[i], err = harness.Build(dir, flags...); err != nil {
			return programs, err
		}
	}
	return programs, nil
})

func newSite(t *testing.T) *site {
	t.Helper()
	newNetwork(t)
	programs, err := builds()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, http: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	t.Cleanup(s.http.CloseIdleConnections)
	if s.backend, err = harness.NewBackend(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.backend.Close)
	if s.cert, err = harness.NewCertificate(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	s.plain = s.start(programs[0], 9001, harness.HTTP1, "H2C=true")
	s.secure = s.start(programs[0], 9002, harness.HTTP1TLS, "TLS_CERT_FILE="+s.cert.CertFile, "TLS_KEY_FILE="+s.cert.KeyFile)
	s.portable = s.start(programs[1], 9003, harness.HTTP1)
	s.nginx = harness.StartNginx(t, nil, 1, fmt.Sprintf(`location = /healthz { return 200; } location /nginx/ {
		proxy_pass http://%s:%d; proxy_http_version 1.1; proxy_buffering off; proxy_buffer_size 4k; }`, publicAddr, s.plain.Port), "")
	return s
}

func (s *site) start(program string, internal int, p harness.Protocol, settings ...string) *gateway {
	s.t.Helper()
	g := &gateway{internal: fmt.Sprintf("%s:%d", privateAddr, internal)}
	env := append([]string{
		fmt.Sprintf("CALLBACK_URL=http://%s:%d/callback", backendAddr, s.backend.Port),
		fmt.Sprintf("HEARTBEAT_INTERVAL_SECONDS=%d", int(heartbeat.Seconds())),
		"INTERNAL_ADDR=" + g.internal,
		"QUEUE_BYTES=8388608",
		"LOG_LEVEL=warn",
	}, settings...)
	command := harness.Command{Args: netns.On(s.t, gatewayHost, program), Env: env}
	var err error
	g.Process, err = harness.Start(command, func(port int) harness.Endpoint { return s.endpoint(port, p) })
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if code, err := g.Stop(harness.Patience); err != nil || code != 0 {
			s.t.Errorf("the gateway exited with code %d: %v", code, err)
		}
		if text := g.Log.Text(); s.t.Failed() || strings.Contains(text, "DATA RACE") || strings.Contains(text, "panic: ") {
			s.t.Errorf("log of the gateway:\n%s", text)
		}
	})
	return g
}

func (s *site) endpoint(port int, p harness.Protocol) harness.Endpoint {
	return harness.Endpoint{
		Addr: fmt.Sprintf("%s:%d", publicAddr, port), Protocol: p,
		TLS: &tls.Config{RootCAs: s.cert.Roots, MinVersion: tls.VersionTLS12},
	}
}

// peer is a client's connection.
type peer struct {
	tcp  *net.TCPConn
	conn net.Conn // tcp, or TLS on it
	http *harness.HTTP2
}

// dial connects. A slow peer is slow below TLS.
func (s *site) dial(k kind, slow bool) *peer {
	s.t.Helper()
	var dialer net.Dialer
	if slow {
		dialer.Control = func(_, _ string, raw syscall.RawConn) error {
			return raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) })
		}
	}
	e := k.endpoint(s)
	conn, err := dialer.DialContext(s.t.Context(), "tcp", e.Addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	p := &peer{tcp: conn.(*net.TCPConn), conn: conn}
	if slow {
		p.conn = paced{p.conn}
	}
	if e.Protocol == harness.HTTP1TLS || e.Protocol == harness.HTTP2TLS {
		config := e.TLS.Clone()
		config.ServerName, config.NextProtos = "localhost", []string{"http/1.1"}
		if k.isHTTP2() {
			config.NextProtos = []string{"h2"}
		}
		p.conn = tls.Client(p.conn, config)
	}
	if k.isHTTP2() {
		if p.http, err = harness.NewHTTP2(p.conn); err != nil {
			s.t.Fatal(err)
		}
	}
	return p
}

// open opens a stream on a peer's connection, and reads what comes until the connection's end.
func (s *site) open(k kind, p *peer, target string) {
	s.t.Helper()
	if p.http != nil {
		if _, err := p.http.Do(k.endpoint(s), harness.Request{Method: http.MethodGet, Target: target, Host: "test"}); err != nil {
			s.t.Fatal(err)
		}
		return
	}
	if _, err := fmt.Fprintf(p.conn, "GET %s HTTP/1.1\r\nHost: test\r\n\r\n", target); err != nil {
		s.t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, p.conn) }()
}

// paced is a connection that reads 10 kB a second.
type paced struct{ net.Conn }

func (c paced) Read(p []byte) (int, error) {
	<-time.After(50 * time.Millisecond)
	return c.Conn.Read(p[:min(len(p), 500)])
}

// send sends an event, and reports whether the stream still exists.
func (s *site) send(ctx context.Context, c *harness.Callback, data string) bool {
	body, err := json.Marshal(map[string]any{"token": c.Token, "event": map[string]any{"data": data}})
	if err != nil {
		s.t.Error(err)
		return false
	}
	url := "http://" + kindOf(c.URL).gateway(s).internal + "/internal/send"
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		s.t.Error(err)
		return false
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := s.http.Do(r)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	return strings.Contains(string(text), `"ok"`)
}

// await waits until there is a callback of this action for each of n streams, and returns them by URL.
func (s *site) await(patience time.Duration, n int, action string) map[string]*harness.Callback {
	s.t.Helper()
	calls, err := s.backend.Await(patience, n, func(c *harness.Callback) bool { return c.Action == action })
	if err != nil {
		s.t.Errorf("%s: %v", action, err)
	}
	told := map[string]*harness.Callback{}
	for _, c := range calls {
		if told[c.URL] != nil {
			s.t.Errorf("more than one %s of %s", action, c.URL)
		}
		told[c.URL] = c
	}
	return told
}
