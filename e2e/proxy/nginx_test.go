package proxy

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// This shows that the other tests would notice a proxy that buffers: an nginx that ignores
// X-Accel-Buffering forwards nothing, not even the head, before the end.
func TestBufferingWouldShow(t *testing.T) {
	t.Parallel()
	gw := harness.StartGateway(t, binary, nil)
	nginx := setup{location: "proxy_ignore_headers X-Accel-Buffering;"}.start(t, gw.Port)
	c := request(t, gw, nginx.Endpoint, "buffered")
	c.token = gw.Await(t, 1, "connect", c.mine)[0].Token
	for range 10 {
		gw.Send(t, map[string]any{"token": c.token, "event": map[string]any{"data": "x"}, "wait": "written"}, "written")
	}
	closed := time.Now()
	gw.CloseStream(t, c.token)
	head, err := c.Head(harness.Patience)
	if err != nil {
		t.Fatal(err)
	}
	if head.At.Before(closed) {
		t.Error("the head came before the end: nginx did not buffer")
	}
	c.want(t, strings.Repeat("data: x\n\n", 10))
}

// Even if nginx compresses streams, it forwards each event at once.
func TestCompressingNginx(t *testing.T) {
	t.Parallel()
	gw := harness.StartGateway(t, binary, nil)
	nginx := setup{site: "gzip on; gzip_types text/event-stream; gzip_min_length 1;"}.start(t, gw.Port)
	http1 := &http.Transport{} // asks for gzip and decompresses it
	defer http1.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+nginx.Endpoint.Addr+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http1.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if !resp.Uncompressed {
		t.Fatal("nginx does not compress")
	}
	token := gw.Await(t, 1, "connect", func(*harness.Callback) bool { return true })[0].Token
	lines := bufio.NewReader(resp.Body)
	for _, want := range []string{": heartbeat\n", "\n"} { // the beginning of the stream
		if got, err := lines.ReadString('\n'); got != want {
			t.Fatalf("got %q (%v), want %q", got, err, want)
		}
	}
	for i := range 20 {
		data := fmt.Sprintf("event %d", i)
		gw.Event(t, token, map[string]any{"data": data})
		for _, want := range []string{"data: " + data + "\n", "\n"} {
			if got, err := lines.ReadString('\n'); got != want {
				t.Fatalf("got %q (%v), want %q", got, err, want)
			}
		}
	}
}

// Heartbeats keep an idle stream open beyond nginx's read timeout.
func TestHeartbeatsKeepNginxWaiting(t *testing.T) {
	t.Parallel()
	gw := harness.StartGateway(t, binary, nil, "HEARTBEAT_INTERVAL_SECONDS=1")
	nginx := setup{location: "proxy_read_timeout 3s;"}.start(t, gw.Port)
	c := open(t, gw, nginx.Endpoint, "idle")
	c.want(t, strings.Repeat(": heartbeat\n\n", 5))
}

// The death of the gateway is a cut for the client, if the protocol between nginx and gateway distinguishes a cut from an end.
func TestGatewayDiesBehindNginx(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]harness.End{"1.0": harness.Clean, "1.1": harness.Cut} {
		t.Run("upstream HTTP "+version, func(t *testing.T) {
			t.Parallel()
			gw := harness.StartGateway(t, binary, nil)
			nginx := setup{location: "proxy_http_version " + version + ";"}.start(t, gw.Port)
			c := open(t, gw, nginx.Endpoint, "cut")
			gw.Event(t, c.token, map[string]any{"data": "last"})
			c.want(t, "data: last\n\n")
			gw.Kill()
			if rest, end, err := c.Rest(harness.Patience); rest != "" || end != want {
				t.Errorf("%q and %v (%v), want %v", rest, end, err, want)
			}
		})
	}
}

// A proxy that forwards the client's address gives no client access to /internal.
func TestInternalThroughForwardingNginx(t *testing.T) {
	t.Parallel()
	gw := harness.StartGateway(t, binary, nil)
	nginx := setup{location: "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"}.start(t, gw.Port)
	c := open(t, gw, nginx.Endpoint, "target")
	for _, path := range []string{"/internal/send", "/metrics", "/internal/anything"} {
		x, err := nginx.Endpoint.Do(t.Context(), harness.Request{
			Method: http.MethodPost, Target: path, Body: []byte(`{"token":"` + c.token + `","event":{"data":"forged"}}`),
			Header: []harness.Field{{Name: "Content-Type", Value: "application/json"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		head, err := x.Head(harness.Patience)
		if err != nil {
			t.Fatal(err)
		}
		if body, _, _ := x.Rest(harness.Patience); head.Status != http.StatusForbidden || !strings.Contains(body, `"INTERNAL_FORBIDDEN"`) {
			t.Errorf("%s: %d %s, want 403 INTERNAL_FORBIDDEN", path, head.Status, body)
		}
		x.HangUp()
	}
	gw.Event(t, c.token, map[string]any{"data": "genuine"})
	c.want(t, "data: genuine\n\n")
}
