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
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/netns"
)

const (
	heartbeat = 2 * time.Second
	// deadline is how soon the backend must be notified of a peer that vanished. The 10 s of
	// section 9 of the contract begin with the next heartbeat at the latest.
	deadline = heartbeat + 12*time.Second
	// settling is how long clients are served before they vanish.
	settling = 4 * time.Second
)

// traffic is what is sent to streams while their clients vanish.
type traffic struct {
	name  string
	bytes int // of an event
	every time.Duration
	slow  bool // much is sent at once, and read slowly
}

var traffics = []traffic{
	{name: "heartbeats"},
	{name: "each second", bytes: 100, every: time.Second},
	{name: "each 100 ms", bytes: 100, every: 100 * time.Millisecond},
	{name: "large", bytes: 20000, every: 100 * time.Millisecond},
	{name: "slow", bytes: 20000, slow: true},
}

// kinds are the kinds of streams in the gateway, and streams through nginx.
var kinds = []string{"HTTP 1", "HTTP 1 over TLS", "HTTP 2", "h2c", "nginx"}

// TestVanish makes clients of each kind and traffic vanish at once. The disconnects of all
// are reported in time, as errors with a detail.
func TestVanish(t *testing.T) {
	s := newSite(t)
	for _, kind := range kinds {
		for i := range *peers {
			s.open(kind, i)
		}
	}
	total := len(kinds) * len(traffics) * *peers
	connects := s.await(harness.Patience, total, "connect")
	ctx, stop := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	defer sending.Wait()
	defer stop()
	for _, c := range connects {
		sending.Go(func() { s.feed(ctx, c) })
	}
	<-time.After(settling)
	cut(t)
	gone := time.Now()
	ends := s.await(deadline, total, "disconnect")
	worst := map[string]time.Duration{}
	told := map[string]int{}
	for _, c := range ends {
		name := kindOf(c)
		after := c.At.Sub(gone)
		worst[name] = max(worst[name], after)
		told[c.Reason+"/"+c.Detail]++
		if after < 0 {
			t.Errorf("%s: disconnect reported %v before it vanished: %s, %q", name, -after, c.Reason, c.Detail)
		}
		if c.Reason != "error" || c.Detail != "stalled" && c.Detail != "connection_lost" {
			t.Errorf("%s: disconnect reported as %s, %q", name, c.Reason, c.Detail)
		}
	}
	for name := range worst {
		t.Logf("%-30s after %v", name, worst[name].Round(time.Millisecond))
	}
	t.Log(told)
	for _, c := range connects {
		if !slices.ContainsFunc(ends, func(e *harness.Callback) bool { return e.Token == c.Token }) {
			t.Errorf("%s: disconnect not reported within %v", kindOf(c), deadline)
		}
	}
}

// site is two gateways, with and without TLS, and their backend.
type site struct {
	t       *testing.T
	backend *harness.Backend
	plain   *harness.Process
	secure  *harness.Process
	cert    *harness.Certificate
	nginx   *harness.Proxy
	http    *http.Client
}

var build = sync.OnceValues(func() (string, error) { return harness.Build("/run") }) // removed with the namespaces

func newSite(t *testing.T) *site {
	t.Helper()
	newNetwork(t)
	binary, err := build()
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
	s.plain = s.start(binary, 9001, harness.HTTP1, "H2C=true")
	s.secure = s.start(binary, 9002, harness.HTTP1TLS, "TLS_CERT_FILE="+s.cert.CertFile, "TLS_KEY_FILE="+s.cert.KeyFile)
	s.nginx = harness.StartNginx(t, nil, 1, fmt.Sprintf(`location = /healthz { return 200; } location /nginx/ {
		proxy_pass http://%s:%d; proxy_http_version 1.1; proxy_buffering off; proxy_buffer_size 4k; }`, publicAddr, s.plain.Port), "")
	return s
}

func (s *site) start(binary string, internal int, p harness.Protocol, settings ...string) *harness.Process {
	s.t.Helper()
	env := append([]string{
		fmt.Sprintf("CALLBACK_URL=http://%s:%d/callback", backendAddr, s.backend.Port),
		fmt.Sprintf("HEARTBEAT_INTERVAL_SECONDS=%d", int(heartbeat.Seconds())),
		fmt.Sprintf("INTERNAL_ADDR=%s:%d", privateAddr, internal),
		"QUEUE_BYTES=8388608",
	}, settings...)
	command := harness.Command{Args: netns.On(s.t, gatewayHost, binary), Env: env}
	process, err := harness.Start(command, func(port int) harness.Endpoint { return s.endpoint(port, p) })
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if code, err := process.Stop(harness.Patience); err != nil || code != 0 {
			s.t.Errorf("the gateway exited with code %d: %v", code, err)
		}
		if text := process.Log.Text(); s.t.Failed() || strings.Contains(text, "DATA RACE") || strings.Contains(text, "panic: ") {
			s.t.Errorf("log of the gateway:\n%s", text)
		}
	})
	return process
}

func (s *site) endpoint(port int, p harness.Protocol) harness.Endpoint {
	return harness.Endpoint{
		Addr: fmt.Sprintf("%s:%d", publicAddr, port), Protocol: p,
		TLS: &tls.Config{RootCAs: s.cert.Roots, MinVersion: tls.VersionTLS12},
	}
}

// open opens a stream for each traffic. Streams of HTTP/2 share a connection, except the slow
// and the large one.
func (s *site) open(kind string, i int) {
	s.t.Helper()
	var shared *harness.HTTP2
	for _, traffic := range traffics {
		target := "/" + path.Join(kind, traffic.name, fmt.Sprint(i))
		target = strings.ReplaceAll(target, " ", "-")
		e := s.endpoint(s.plain.Port, harness.HTTP1)
		switch kind {
		case "HTTP 1 over TLS":
			e = s.endpoint(s.secure.Port, harness.HTTP1TLS)
		case "HTTP 2":
			e = s.endpoint(s.secure.Port, harness.HTTP2TLS)
		case "h2c":
			e = s.endpoint(s.plain.Port, harness.H2C)
		case "nginx":
			e = s.nginx.Endpoint
		}
		request := harness.Request{Method: http.MethodGet, Target: target, Host: "test"}
		if e.Protocol == harness.HTTP1 || e.Protocol == harness.HTTP1TLS {
			conn := s.dial(e, traffic)
			if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: test\r\n\r\n", target); err != nil {
				s.t.Fatal(err)
			}
			go func() { _, _ = io.Copy(io.Discard, conn) }()
			continue
		}
		client := shared
		if client == nil || traffic.slow || traffic.bytes > 1000 {
			var err error
			if client, err = harness.NewHTTP2(s.dial(e, traffic)); err != nil {
				s.t.Fatal(err)
			}
		}
		if shared == nil {
			shared = client
		}
		if _, err := client.Do(e, request); err != nil {
			s.t.Fatal(err)
		}
	}
}

// dial connects. For a slow client the connection is slow below TLS.
func (s *site) dial(e harness.Endpoint, traffic traffic) net.Conn {
	s.t.Helper()
	var dialer net.Dialer
	if traffic.slow {
		dialer.Control = func(_, _ string, raw syscall.RawConn) error {
			return raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) })
		}
	}
	conn, err := dialer.DialContext(s.t.Context(), "tcp", e.Addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	if traffic.slow {
		conn = paced{conn}
	}
	if e.Protocol == harness.HTTP1 || e.Protocol == harness.H2C {
		return conn
	}
	config := e.TLS.Clone()
	config.ServerName, config.NextProtos = "localhost", []string{"http/1.1"}
	if e.Protocol == harness.HTTP2TLS {
		config.NextProtos = []string{"h2"}
	}
	return tls.Client(conn, config)
}

// paced is a connection that reads 10 kB a second.
type paced struct{ net.Conn }

func (c paced) Read(p []byte) (int, error) {
	<-time.After(50 * time.Millisecond)
	return c.Conn.Read(p[:min(len(p), 500)])
}

// feed sends a stream its traffic until ctx or the stream ends.
func (s *site) feed(ctx context.Context, c *harness.Callback) {
	i := slices.IndexFunc(traffics, func(f traffic) bool { return strings.Contains(c.URL, strings.ReplaceAll(f.name, " ", "-")) })
	f := traffics[i]
	body, err := json.Marshal(map[string]any{"token": c.Token, "event": map[string]any{"data": strings.Repeat("x", f.bytes)}})
	if err != nil {
		s.t.Error(err)
		return
	}
	if f.slow {
		for range 20 {
			s.send(ctx, c, body)
		}
		return
	}
	if f.every == 0 {
		return
	}
	ticker := time.NewTicker(f.every)
	defer ticker.Stop()
	for s.send(ctx, c, body) {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// send sends an event, and reports whether the stream still exists.
func (s *site) send(ctx context.Context, c *harness.Callback, body []byte) bool {
	port := 9001
	if strings.HasPrefix(c.URL, "/HTTP-2") || strings.HasPrefix(c.URL, "/HTTP-1-over-TLS") {
		port = 9002
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://%s:%d/internal/send", privateAddr, port), bytes.NewReader(body))
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

func (s *site) await(patience time.Duration, n int, action string) []*harness.Callback {
	s.t.Helper()
	calls, err := s.backend.Await(patience, n, func(c *harness.Callback) bool { return c.Action == action })
	if err != nil {
		s.t.Errorf("%s: %v", action, err)
	}
	return calls
}

// kindOf returns the kind and traffic of a stream.
func kindOf(c *harness.Callback) string { return path.Dir(c.URL) }
