package nodes_test

import (
	"fmt"
	"net/http"
	"testing"

	"ssegateway/e2e/harness"
)

// A node that is stopped while NATS is away tells of all connections that came meanwhile.
func TestStopWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	broker := startNATS(t)
	g := harness.StartGateway(t, binary, nil, "NATS_URL="+broker.ClientURL(), fmt.Sprintf("NODE_LEASE_SECONDS=%d", leaseSeconds))
	n := &nodes{t: t, a: g, backend: g.Backend, client: &http.Client{}}
	t.Cleanup(n.client.CloseIdleConnections)
	n.await("ready", func() bool { status, _ := n.call(g, http.MethodGet, "/readyz", ""); return status == http.StatusOK })
	broker.Shutdown()
	broker.WaitForShutdown()
	n.await("not ready", func() bool { status, _ := n.call(g, http.MethodGet, "/readyz", ""); return status != http.StatusOK })
	const streams = 20
	for i := range streams {
		n.open(g, fmt.Sprint(i), "")
	}
	if code, err := g.Stop(harness.Patience); code != 0 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
	told, _ := n.backend.Await(harness.Patience, streams, func(c *harness.Callback) bool {
		return c.Action == "disconnect" && c.Reason == "server_closed"
	})
	if len(told) != streams {
		t.Errorf("%d of %d ends were told", len(told), streams)
	}
}
