package proxy

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// serveApplication serves all paths that are not the gateway's, and returns the port.
func serveApplication(t *testing.T, h http.HandlerFunc) int {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	var port int
	if _, err := fmt.Sscanf(server.URL, "http://127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	return port
}

func nothing(http.ResponseWriter, *http.Request) {}

// recorder records the targets of the requests that it gets.
type recorder struct {
	mu      sync.Mutex
	targets []string
}

func (r *recorder) serve(_ http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.targets = append(r.targets, req.RequestURI)
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.targets
	r.targets = nil
	return taken
}

// startGateway runs a gateway that soon has Apache learn that a client has left.
func startGateway(t *testing.T, settings ...string) *harness.Gateway {
	t.Helper()
	return harness.StartGateway(t, binary, nil, append(settings, "HEARTBEAT_INTERVAL_SECONDS=1")...)
}

// forEach runs a test with each configuration in deploy/, with plain HTTP and with HTTP/2 over TLS.
func forEach(t *testing.T, test func(t *testing.T, start func(gatewayPort, applicationPort int) *harness.Proxy)) {
	for _, name := range harness.Fronts() {
		for protocol, secured := range map[string]*harness.Certificate{"plain HTTP": nil, "TLS and HTTP 2": cert} {
			t.Run(name+" with "+protocol, func(t *testing.T) {
				test(t, func(gatewayPort, applicationPort int) *harness.Proxy {
					return harness.StartFront(t, name, secured, gatewayPort, applicationPort)
				})
			})
		}
	}
}

// Events come through each proxy at once, and the backend is told at once when a client leaves;
// through Apache at a heartbeat.
func TestThroughFronts(t *testing.T) {
	forEach(t, func(t *testing.T, start func(gatewayPort, applicationPort int) *harness.Proxy) {
		gw := harness.StartGateway(t, binary, nil, "DRAIN_SECONDS=60", "HEARTBEAT_INTERVAL_SECONDS=60")
		application := serveApplication(t, nothing)
		front := start(gw.Port, application).Endpoint
		testEvents(t, gw, front)
		t.Parallel() // only here, so that other tests do not disturb the measurements before
		if strings.Contains(t.Name(), "/apache") {
			beating := startGateway(t)
			testLeave(t, beating, start(beating.Port, application).Endpoint)
		} else {
			testLeave(t, gw, front) // long before the next heartbeat
		}
		testDrain(t, gw, front)
	})
}

// changed are targets that some proxies refuse or clean. Browsers send no dot segments.
var changed = map[string][]string{
	"/events/%c3%a4?token=a%3Db": {"traefik"}, // which has %C3%A4 of it
	"/events/a%2Fb":              {"apache"},
	"/events//a/b?":              {"apache", "traefik"},
	"/events/a/../b":             {"apache", "traefik", "haproxy", "caddy"},
	"/events//a/./b?":            {"apache", "traefik", "haproxy", "caddy"},
}

// The backend gets the target as the client sent it, the name of the site, and the client's address.
func TestFrontsPassTheRequestOn(t *testing.T) {
	t.Parallel()
	for _, name := range harness.Fronts() {
		t.Run(name, func(t *testing.T) {
			gw := startGateway(t)
			front := harness.StartFront(t, name, nil, gw.Port, serveApplication(t, nothing)).Endpoint
			targets := []string{"/events/", "/events/a%20c?q=%20&&x=1", "/events/?a?b"}
			for target, changing := range changed {
				if !slices.Contains(changing, name) {
					targets = append(targets, target)
				}
			}
			for i, target := range targets {
				key := fmt.Sprintf("target %d", i)
				x, err := front.Do(t.Context(), harness.Request{
					Target: target, Host: "site.example", Header: []harness.Field{{Name: harness.KeyHeader, Value: key}},
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(x.HangUp)
				call := gw.Await(t, 1, "connect", func(c *harness.Callback) bool { return c.Key == key })[0]
				if call.URL != target {
					t.Errorf("request.url is %q, want %q", call.URL, target)
				}
				if h := call.Headers; h["host"] != "site.example" || h["x-forwarded-for"] != "127.0.0.1" || h["x-forwarded-proto"] != "http" {
					t.Errorf("request.headers are %v", h)
				}
			}
		})
	}
}

// While the gateway is down, clients get an answer that makes them reconnect. After a 502 of the
// proxy a browser would give up for good. What the gateway itself answers is passed on.
func TestFrontsWithoutGateway(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, start func(gatewayPort, applicationPort int) *harness.Proxy) {
		gw := startGateway(t)
		front := start(gw.Port, serveApplication(t, nothing)).Endpoint
		answer := func(key string) (*harness.Head, string) {
			t.Helper()
			c := request(t, gw, front, key)
			head, err := c.Head(harness.Patience)
			if err != nil {
				t.Fatal(err)
			}
			body, _, _ := c.Rest(harness.Patience)
			c.HangUp()
			return head, body
		}
		for _, status := range []int{http.StatusUnauthorized, http.StatusNotFound, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout} {
			key := strconv.Itoa(status)
			gw.Backend.On(key, harness.Script{Connect: func(*harness.Callback) harness.Answer { return harness.Answer{Status: status} }})
			if head, body := answer(key); head.Status != status || !strings.Contains(body, `"BACKEND_`) {
				t.Errorf("a connect refused with %d: %d %q", status, head.Status, body)
			}
		}
		gw.Kill()
		times := map[string]bool{}
		for range 20 {
			head, body := answer("down")
			var ms int
			if _, err := fmt.Sscanf(body, "retry: %d\n\n", &ms); err != nil || !retryOnly.MatchString(body) || ms < 1000 || ms > 4999 {
				t.Fatalf("without a gateway: %q, want retry: 1000 to 4999", body)
			}
			if head.Status != http.StatusOK || head.Get("Content-Type") != "text/event-stream" || head.Get("Cache-Control") != "no-cache" {
				t.Errorf("without a gateway: %d %v with %q, want a stream that only says retry", head.Status, head.Header, body)
			}
			times[body] = true
		}
		if len(times) == 1 {
			t.Errorf("20 times the same %v", times)
		}
	})
}

// A reload ends no stream, and new connections get the new certificate.
func TestReloadOfFronts(t *testing.T) {
	t.Parallel()
	for _, name := range harness.Fronts() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			old, err := harness.NewCertificate(dir)
			if err != nil {
				t.Fatal(err)
			}
			gw := startGateway(t)
			front := harness.StartFront(t, name, old, gw.Port, serveApplication(t, nothing))
			before := open(t, gw, front.Endpoint, "before")
			renewed, err := harness.NewCertificate(dir)
			if err != nil {
				t.Fatal(err)
			}
			front.Reload(t)
			// Until the old process has stopped listening it may still take a connection.
			front.Endpoint = harness.Local(front.Port, renewed)
			var after *client
			for deadline := time.Now().Add(harness.Patience); after == nil; {
				if after, err = tryRequest(t, gw, front.Endpoint, "after"); time.Now().After(deadline) {
					t.Fatalf("the new certificate is not in use: %v", err)
				}
			}
			after.opened(t)
			for _, c := range []*client{before, after} {
				gw.Event(t, c.token, map[string]any{"data": "hello"})
				const event, heartbeat = "data: hello\n\n", ": heartbeat\n\n" // of the same length
				got, err := heartbeat, error(nil)
				for got == heartbeat {
					got, err = c.Next(len(heartbeat), harness.Patience)
				}
				if got != event {
					t.Errorf("the stream opened %s the reload has %q (%v), want %q", c.key, got, err, event)
				}
				c.Leave()
				c.wantDisconnect(t, "client_closed")
			}
		})
	}
}
