package nodes_test

import (
	"fmt"
	"net/http"
	"regexp"
	"testing"

	"ssegateway/e2e/harness"
)

// A node with another CALLBACK_URL takes no streams, and says why; with the one before named
// it does.
func TestOtherCallbackURL(t *testing.T) {
	t.Parallel()
	settings := []string{"NATS_URL=" + startNATS(t).ClientURL(), fmt.Sprintf("NODE_LEASE_SECONDS=%d", leaseSeconds)}
	a := harness.StartGateway(t, binary, nil, settings...)
	n := &nodes{t: t, a: a, backend: a.Backend, client: &http.Client{}}
	t.Cleanup(n.client.CloseIdleConnections)
	ready := func(g *harness.Gateway) func() bool {
		return func() bool { status, _ := n.call(g, http.MethodGet, "/readyz", ""); return status == http.StatusOK }
	}
	n.await("ready", ready(a))
	other := harness.StartGateway(t, binary, nil, settings...) // with a backend of its own
	if _, said := other.Log.Find(harness.Patience, regexp.MustCompile(`level=ERROR|\[ERROR\]`), regexp.MustCompile("has another CALLBACK_URL")); !said {
		t.Error("the log does not say what is wrong")
	}
	n.want(other, http.MethodGet, "/readyz", "", http.StatusServiceUnavailable, "has another CALLBACK_URL")
	n.want(other, http.MethodGet, "/stream", "", http.StatusOK, "retry: ") // come back

	next := harness.StartGateway(t, binary, nil, append(settings, "CALLBACK_URL_BEFORE="+a.Backend.URL("/callback?secret=another"))...)
	n.await("ready", ready(next))
	query := harness.StartGateway(t, binary, nil, append(settings, "CALLBACK_URL="+a.Backend.URL("/callback?secret=another"))...)
	n.await("ready", ready(query))
}
