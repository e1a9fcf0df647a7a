package proxy

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

var (
	binary string // the gateway
	cert   *harness.Certificate
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, prepare)) }

func prepare(dir string) (err error) {
	binary, cert, err = harness.BuildWithCertificate(dir)
	return err
}

// setup is a configuration of nginx in front of the gateway.
type setup struct {
	name     string
	site     string // directives outside the location
	location string // directives beside proxy_pass
	tls      bool   // HTTP/2 over TLS to the client; HTTP/1 to the gateway in any case
}

const keepAlive = `proxy_http_version 1.1; proxy_set_header Connection "";`

// None of them turns off buffering in nginx. By default nginx speaks HTTP/1.0 to the gateway
// before 1.29.7, and HTTP/1.1 since then.
var setups = []setup{
	{name: "defaults"},
	{name: "upstream HTTP 1.0", location: "proxy_http_version 1.0;"},
	{name: "upstream HTTP 1.1", location: "proxy_http_version 1.1;"},
	{name: "upstream HTTP 1.1 keep-alive", location: keepAlive},
	{name: "gzip", site: "gzip on; gzip_proxied any; gzip_min_length 1;"},
	{name: "TLS and HTTP 2", tls: true},
	{name: "TLS and HTTP 2 keep-alive", tls: true, location: keepAlive},
}

// start runs nginx in front of a gateway.
func (s setup) start(t *testing.T, gatewayPort int) *harness.Proxy {
	t.Helper()
	secured := cert
	if !s.tls {
		secured = nil
	}
	return harness.StartNginx(t, secured, gatewayPort, s.site, s.location)
}

// client is a stream through nginx.
type client struct {
	*harness.Exchange
	gw    *harness.Gateway
	key   string
	token string
}

// open opens a stream. Its head has to arrive although there is no event yet.
func open(t *testing.T, gw *harness.Gateway, front harness.Endpoint, key string) *client {
	t.Helper()
	c := request(t, gw, front, key)
	c.opened(t)
	return c
}

// opened waits for the head of a stream that was requested.
func (c *client) opened(t *testing.T) {
	t.Helper()
	head, err := c.Head(harness.Patience)
	if err != nil {
		t.Fatal(err)
	}
	if head.Status != http.StatusOK || head.Get("Content-Type") != "text/event-stream" || head.Get("Content-Encoding") != "" {
		t.Fatalf("head of the stream: %d %v", head.Status, head.Header)
	}
	c.token = c.gw.Await(t, 1, "connect", c.mine)[0].Token
}

// request returns a request for a stream, like a browser's.
func request(t *testing.T, gw *harness.Gateway, front harness.Endpoint, key string) *client {
	t.Helper()
	c, err := tryRequest(t, gw, front, key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tryRequest is request for a proxy that may not accept the connection.
func tryRequest(t *testing.T, gw *harness.Gateway, front harness.Endpoint, key string) (*client, error) {
	t.Helper()
	x, err := front.Do(t.Context(), harness.Request{
		Target: "/events/" + key,
		Header: []harness.Field{{Name: harness.KeyHeader, Value: key}, {Name: "accept-encoding", Value: "gzip, deflate, br"}},
	})
	if err != nil {
		return nil, err
	}
	t.Cleanup(x.HangUp)
	return &client{Exchange: x, gw: gw, key: key}, nil
}

func (c *client) mine(call *harness.Callback) bool { return call.Key == c.key }

// want waits for the next bytes, which must be these.
func (c *client) want(t *testing.T, want string) {
	t.Helper()
	if got, err := c.Next(len(want), harness.Patience); got != want {
		t.Fatalf("the stream has %.300q, want %.300q (%v)", got, want, err)
	}
}

// wantDisconnect waits for the disconnect callback.
func (c *client) wantDisconnect(t *testing.T, reason string) {
	t.Helper()
	if call := c.gw.Await(t, 1, "disconnect", c.mine)[0]; call.Token != c.token || call.Reason != reason {
		t.Fatalf("disconnect of %s with reason %q, want %s with %q", call.Token, call.Reason, c.token, reason)
	}
}

func TestThroughNginx(t *testing.T) {
	for _, s := range setups {
		t.Run(s.name, func(t *testing.T) {
			// The drain is spread over a minute, so that there is time to check it.
			gw := harness.StartGateway(t, binary, nil, "DRAIN_SECONDS=60")
			nginx := s.start(t, gw.Port)
			testEvents(t, gw, nginx.Endpoint)
			t.Parallel() // only here, so that other tests do not disturb the measurements before
			testLeave(t, gw, nginx.Endpoint)
			testDrain(t, gw, nginx.Endpoint)
		})
	}
}

// testEvents: every event arrives soon, and before the next one is sent, which would be
// impossible with a proxy that buffers. A close ends the stream cleanly.
func testEvents(t *testing.T, gw *harness.Gateway, front harness.Endpoint) {
	c := open(t, gw, front, "events")
	var latencies harness.Latencies
	for i := range 100 {
		data := fmt.Sprintf("event %d ", i)
		if i%10 == 9 {
			data += strings.Repeat("x", 20_000) // more than one of nginx's buffers
		}
		sent := time.Now()
		gw.Event(t, c.token, map[string]any{"data": data})
		c.want(t, "data: "+data+"\n\n")
		latencies = append(latencies, time.Since(sent))
	}
	t.Logf("send to receipt: %v", latencies)
	if median := latencies.Quantile(0.5); median > 50*time.Millisecond {
		t.Errorf("half of the events take longer than %v, want 50ms", median)
	}

	gw.CloseStream(t, c.token)
	if rest, end, err := c.Rest(harness.Patience); rest != "" || end != harness.Clean {
		t.Errorf("after the close: %q and %v (%v), want a clean end", rest, end, err)
	}
	c.wantDisconnect(t, "server_closed")
}

// testLeave: the backend is notified when a client behind the proxy disconnects.
func testLeave(t *testing.T, gw *harness.Gateway, front harness.Endpoint) {
	c := open(t, gw, front, "leave")
	gw.Event(t, c.token, map[string]any{"data": "hello"})
	c.want(t, "data: hello\n\n")
	left := time.Now()
	c.Leave()
	c.wantDisconnect(t, "client_closed")
	t.Logf("the backend was told of the client's leaving after %v", time.Since(left).Round(100*time.Microsecond))
}

var retryOnly = regexp.MustCompile(`^retry: [0-9]+\n\n$`)

// testDrain: streams that a drain ends, and clients that connect during it, get a retry
// through the proxy. The gateway is killed at the end.
func testDrain(t *testing.T, gw *harness.Gateway, front harness.Endpoint) {
	// The drain ends one of the two streams at once, and the other one half a minute later.
	streams := []*client{open(t, gw, front, "drain1"), open(t, gw, front, "drain2")}
	if err := gw.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	ended := gw.Await(t, 1, "disconnect", func(c *harness.Callback) bool { return strings.HasPrefix(c.Key, "drain") })[0]
	for _, c := range streams {
		if c.key != ended.Key {
			continue
		}
		c.wantDisconnect(t, "server_closed")
		if rest, end, err := c.Rest(harness.Patience); end != harness.Clean || !retryOnly.MatchString(rest) {
			t.Errorf("a drained stream has %q and %v (%v), want a retry and a clean end", rest, end, err)
		}
	}

	late := request(t, gw, front, "late")
	head, err := late.Head(harness.Patience)
	if err != nil {
		t.Fatal(err)
	}
	rest, end, err := late.Rest(harness.Patience)
	if head.Status != http.StatusOK || head.Get("Content-Type") != "text/event-stream" || end != harness.Clean || !retryOnly.MatchString(rest) {
		t.Errorf("during a drain: %d %v with %q and %v (%v), want 200, a retry and a clean end", head.Status, head.Header, rest, end, err)
	}
	if calls := gw.Backend.Calls(late.mine); len(calls) > 0 {
		t.Errorf("during a drain the backend was called: %s", calls[0].Body)
	}
	gw.Kill()
}
