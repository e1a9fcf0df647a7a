package proxy

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ssegateway/e2e/harness"
)

func TestThroughHAProxy(t *testing.T) {
	gw := harness.StartGateway(t, binary, nil, "DRAIN_SECONDS=60")
	front := harness.StartShippedHAProxy(t, gw.Port, serveApplication(t, nothing))
	testEvents(t, gw, front)
	t.Parallel() // only here, so that other tests do not disturb the measurements before
	for _, target := range []string{"/internal", "/internal/send", "/metrics"} {
		x, err := front.Do(t.Context(), harness.Request{Target: target})
		if err != nil {
			t.Fatal(err)
		}
		if head, err := x.Head(harness.Patience); err != nil || head.Status != http.StatusForbidden {
			t.Errorf("%s: %+v (%v), want 403", target, head, err)
		}
		x.HangUp()
	}
	testLeave(t, gw, front)
	testDrain(t, gw, front)
}

// The documentation shows the configuration that is tested.
func TestHAProxyIsDocumented(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "```haproxy\n"+harness.HAProxyConfig(t)+"```\n") {
		t.Error("docs/operations.md does not show deploy/haproxy.cfg unchanged")
	}
}
