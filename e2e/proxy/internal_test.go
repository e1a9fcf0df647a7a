package proxy

import (
	"net/http"
	"strings"
	"testing"

	"ssegateway/e2e/harness"
)

// internal are spellings of targets that no client may ask the gateway for.
var internal = []string{
	"/internal/send", "/internal/send?x=y", "/internal/", "/internal", "//internal/send", "/internal//send",
	"/./internal/send", "/x/../internal/send", "/events/../internal/send", "/events/%2e%2e/internal/send",
	"/events/..%2finternal/send", "/%69nternal/send", "/internal%2fsend", "/%2finternal/send", "/internal/connections", "/internal/../internal/send",
	"/internal/./send", "//x/../internal/send", "/events/%2e%2e%2finternal%2fsend", "/events/x/../../internal/send", "http://%s//internal/send",
	"/metrics", "/metrics?x=y", "/metrics/", "//metrics", "/%6detrics", "/events/../metrics", "http://%s/internal/send", "http://%s/metrics",
}

// misleading are targets that are not internal once they are cleaned, or were read in another way
// than a gateway does. Whoever answers them, the gateway must not take them for internal.
var misleading = []string{
	"/internal/../events/a", "/internal/send/../../events/a", "/internal/%2e%2e/events/a", "/internal/..%2fevents/a",
	"/internal/send/..%2f..%2fevents/a", "/internal/send%23/../../../events/a", "/metrics/../events/a", "http://%s/internal/../events/a",
	"/internal;x/send", "/internal/send;x", "/internal%00/send", "/internal%252fsend", "/%2569nternal/send", "/internal\\send",
	"/events\\..\\internal\\send", "/events/..\\internal/send", "/events/..;/internal/send", "/INTERNAL/send", "/metrics;x", "/metrics%3fx", "/metrics%23",
}

// targets returns those that a client of this endpoint can send. HTTP/2 has no absolute form.
func targets(front harness.Endpoint, list []string) []string {
	var sent []string
	for _, target := range list {
		if target[0] == '/' || front.Protocol == harness.HTTP1 {
			sent = append(sent, strings.Replace(target, "%s", front.Addr, 1))
		}
	}
	return sent
}

// ask returns the status of the answer to a request, with a JSON body if there is one.
func ask(t *testing.T, e harness.Endpoint, method, target, body string, header ...harness.Field) int {
	t.Helper()
	r := harness.Request{Method: method, Target: target, Header: header}
	if body != "" {
		r.Body = []byte(body)
		r.Header = append(r.Header, harness.Field{Name: "content-type", Value: "application/json"})
	}
	x, err := e.Do(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer x.HangUp()
	head, err := x.Head(harness.Patience)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	return head.Status
}

// Each proxy denies requests to the gateway's internal paths, in whatever spelling. They reach
// neither the gateway nor the application.
func TestFrontsDenyInternal(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, start func(gatewayPort, applicationPort int) *harness.Proxy) {
		var gateway, application recorder
		front := start(serveApplication(t, gateway.serve), serveApplication(t, application.serve)).Endpoint
		application.take() // the health check

		for _, target := range targets(front, internal) {
			want := http.StatusForbidden
			if strings.Contains(t.Name(), "/apache") && strings.Contains(target, "%2f") {
				want = http.StatusNotFound // as for any path with an encoded slash
			}
			for method, body := range map[string]string{http.MethodPost: `{"token":"x"}`, http.MethodGet: ""} {
				if got := ask(t, front, method, target, body); got != want {
					t.Errorf("%s %s: %d, want %d", method, target, got, want)
				}
			}
		}
		if got := append(gateway.take(), application.take()...); len(got) > 0 {
			t.Errorf("passed on: %q", got)
		}
		// Other requests do arrive, so the check above is meaningful.
		for _, target := range []string{"/events/internal/send", "/elsewhere", "/internals"} {
			if got := ask(t, front, http.MethodGet, target, ""); got != http.StatusOK {
				t.Errorf("%s: %d, want 200", target, got)
			}
		}
		if g, a := gateway.take(), application.take(); len(g) != 1 || g[0] != "/events/internal/send" || len(a) != 2 || a[0] != "/elsewhere" {
			t.Errorf("the gateway got %q and the application %q", g, a)
		}
		for _, target := range targets(front, misleading) {
			ask(t, front, http.MethodGet, target, "")
			for _, got := range gateway.take() {
				if strings.HasPrefix(got, "/internal/") || strings.HasPrefix(got, "/metrics") {
					t.Errorf("%s reached the gateway as %s", target, got)
				}
			}
		}
	})
}

// No spelling sends an event through a proxy, though the client has the token of /internal, and all
// that is not denied goes to the gateway, for want of an application.
func TestNoSendThroughFronts(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, start func(gatewayPort, applicationPort int) *harness.Proxy) {
		const secret = "s3cret-of-some-length-4711"
		t.Parallel()
		gw := harness.StartGateway(t, binary, nil, "INTERNAL_TOKEN="+secret)
		front := start(gw.Port, gw.Port).Endpoint
		c := open(t, gw, front, "target")
		send := func(e harness.Endpoint, target, event string) int {
			t.Helper()
			return ask(t, e, http.MethodPost, target, `{"token":"`+c.token+`","event":`+event+`}`,
				harness.Field{Name: "authorization", Value: "Bearer " + secret})
		}
		for _, target := range append(targets(front, internal), targets(front, misleading)...) {
			send(front, target, `{"data":"forged"}`)
		}
		if got := send(gw.Endpoint, "/internal/send", `{"data":"genuine"},"close":true`); got != http.StatusOK {
			t.Fatalf("the send without a proxy: %d", got)
		}
		if rest, _, err := c.Rest(harness.Patience); rest != "data: genuine\n\n" {
			t.Errorf("the stream has %q (%v), want only the genuine event", rest, err)
		}
	})
}
