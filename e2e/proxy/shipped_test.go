package proxy

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

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

// nginx denies requests to the gateway's internal paths, in whatever spelling. They reach
// neither the gateway nor the application.
func TestShippedFileDeniesInternal(t *testing.T) {
	t.Parallel()
	var gateway, application recorder
	nginx := harness.StartShippedNginx(t, nil, serveApplication(t, gateway.serve), serveApplication(t, application.serve))
	application.take() // the health check

	status := func(method, target string) int {
		t.Helper()
		x, err := nginx.Endpoint.Do(t.Context(), harness.Request{
			Method: method, Target: target, Body: []byte(`{"token":"x"}`),
			Header: []harness.Field{{Name: "Content-Type", Value: "application/json"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer x.HangUp()
		head, err := x.Head(harness.Patience)
		if err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		return head.Status
	}
	for _, target := range []string{
		"/internal/send", "/internal/send?x=y", "/internal/", "/internal", "//internal/send", "/internal//send",
		"/./internal/send", "/x/../internal/send", "/events/../internal/send", "/events/%2e%2e/internal/send",
		"/events/..%2finternal/send", "/%69nternal/send", "/internal%2fsend", "/internal/connections", "/internal/../internal/send",
		"/metrics", "/metrics?x=y", "//metrics", "/%6detrics", "/events/../metrics",
	} {
		for _, method := range []string{http.MethodPost, http.MethodGet} {
			if got := status(method, target); got != http.StatusForbidden {
				t.Errorf("%s %s: %d, want 403", method, target, got)
			}
		}
	}
	if got := append(gateway.take(), application.take()...); len(got) > 0 {
		t.Errorf("nginx passed on %q", got)
	}
	// Other requests do arrive, so the check above is meaningful.
	if got := status(http.MethodGet, "/events/internal/send"); got != http.StatusOK {
		t.Errorf("/events/internal/send: %d, want 200", got)
	}
	if got := status(http.MethodGet, "/elsewhere"); got != http.StatusOK {
		t.Errorf("/elsewhere: %d, want 200", got)
	}
	if g, a := gateway.take(), application.take(); len(g) != 1 || g[0] != "/events/internal/send" || len(a) != 1 || a[0] != "/elsewhere" {
		t.Errorf("the gateway got %q and the application %q", g, a)
	}
}

// The backend gets the target as the client sent it, and the client's address.
func TestShippedFilePassesTheRequestOn(t *testing.T) {
	t.Parallel()
	gw := harness.StartGateway(t, binary, nil)
	nginx := harness.StartShippedNginx(t, nil, gw.Port, serveApplication(t, nothing))
	for i, target := range []string{
		"/events/", "/events/a%2Fb%20c?q=%20&&x=1", "/events//a/./b?", "/events/a/../b", "/events/%c3%a4?token=a%3Db", "/events/?a?b",
	} {
		key := fmt.Sprintf("target %d", i)
		x, err := nginx.Endpoint.Do(t.Context(), harness.Request{
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
}

// While the gateway is down, clients get an answer that makes them reconnect. After nginx's
// own 502 a browser would give up for good.
func TestShippedFileWithoutGateway(t *testing.T) {
	t.Parallel()
	gw := harness.StartGateway(t, binary, nil)
	nginx := harness.StartShippedNginx(t, nil, gw.Port, serveApplication(t, nothing))
	gw.Backend.On("refused", harness.Script{Connect: func(*harness.Callback) harness.Answer {
		return harness.Answer{Status: http.StatusBadGateway}
	}})
	answer := func(key string) (*harness.Head, string) {
		t.Helper()
		c := request(t, gw, nginx.Endpoint, key)
		head, err := c.Head(harness.Patience)
		if err != nil {
			t.Fatal(err)
		}
		body, _, _ := c.Rest(harness.Patience)
		return head, body
	}
	// A 502 from the backend is forwarded unchanged.
	if head, body := answer("refused"); head.Status != http.StatusBadGateway || !strings.Contains(body, `"BACKEND_ERROR"`) {
		t.Errorf("a connect refused with 502: %d %q", head.Status, body)
	}
	gw.Kill()
	head, body := answer("down")
	if head.Status != http.StatusOK || head.Get("Content-Type") != "text/event-stream" || head.Get("Cache-Control") != "no-cache" ||
		!retryOnly.MatchString(body) {
		t.Errorf("without a gateway: %d %v with %q, want a stream that only says retry", head.Status, head.Header, body)
	}
	times := map[string]bool{}
	for range 20 {
		_, body := answer("down")
		var ms int
		if _, err := fmt.Sscanf(body, "retry: %d\n\n", &ms); err != nil || ms < 1000 || ms > 4990 {
			t.Fatalf("without a gateway: %q, want 1000 to 4990 ms", body)
		}
		times[body] = true
	}
	if len(times) == 1 {
		t.Errorf("20 times the same %v", times)
	}
}
