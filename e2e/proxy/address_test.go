package proxy

import (
	"encoding/json"
	"fmt"
	"testing"

	"ssegateway/e2e/harness"
)

// Each file has the proxy tell the gateway the address of its client, and a client cannot tell another one.
func TestFrontsNameTheClient(t *testing.T) {
	t.Parallel()
	const client = "127.0.0.77"
	for _, name := range harness.Fronts() {
		t.Run(name, func(t *testing.T) {
			gw := startGateway(t, "TRUSTED_PROXIES=127.0.0.1", "MAX_CONNECTIONS_PER_IP=1")
			front := harness.StartFront(t, name, nil, gw.Port, serveApplication(t, nothing)).Endpoint
			x, err := front.Do(t.Context(), harness.Request{
				Target: "/events/", LocalAddr: client,
				Header: []harness.Field{{Name: harness.KeyHeader, Value: "first"}, {Name: "X-Forwarded-For", Value: "203.0.113.9"}, {Name: "X-Forwarded-For", Value: "127.0.0.1"}},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(x.HangUp)
			wantClientIP(t, gw, "first", client)
			if head, err := x.Head(harness.Patience); err != nil || head.Status != 200 {
				t.Fatal(head, err)
			}
			for other, want := range map[string]int{client: 429, "127.0.0.78": 200} {
				x, err := front.Do(t.Context(), harness.Request{Target: "/events/", LocalAddr: other, Header: []harness.Field{{Name: harness.KeyHeader, Value: other}}})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(x.HangUp)
				if head, err := x.Head(harness.Patience); err != nil || head.Status != want {
					t.Errorf("%s: %v (%v), want %d", other, head, err, want)
				}
			}
		})
	}
}

// wantClientIP wants the address of the client in the connect callback of a key.
func wantClientIP(t *testing.T, gw *harness.Gateway, key, want string) {
	t.Helper()
	call := gw.Await(t, 1, "connect", func(c *harness.Callback) bool { return c.Key == key })[0]
	var body struct {
		Request struct {
			ClientIP string `json:"client_ip"`
		} `json:"request"`
	}
	if err := json.Unmarshal(call.Body, &body); err != nil || body.Request.ClientIP != want {
		t.Errorf("client_ip %q of %v (%v), want %s", body.Request.ClientIP, call.Headers, err, want)
	}
}

// HAProxy may say by the PROXY protocol, in both versions, who the client is.
func TestProxyProtocolOfHAProxy(t *testing.T) {
	t.Parallel()
	for _, option := range []string{"send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"} {
		t.Run(option, func(t *testing.T) {
			gw := startGateway(t, "TRUSTED_PROXIES=127.0.0.2", "PROXY_PROTOCOL=true")
			server := fmt.Sprintf("server gateway 127.0.0.1:%d", gw.Port)
			front := harness.StartFront(t, "haproxy", nil, gw.Port, serveApplication(t, nothing), server, server+" source 127.0.0.2 "+option).Endpoint
			for _, client := range []string{"127.0.0.77", "127.0.0.78"} {
				x, err := front.Do(t.Context(), harness.Request{Target: "/events/", LocalAddr: client, Header: []harness.Field{{Name: harness.KeyHeader, Value: client}}})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(x.HangUp)
				wantClientIP(t, gw, client, client)
			}
		})
	}
}
