//go:build linux

package nodes_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// A dead node's streams are told of by another, many in one callback.
func TestTakeoverInBatches(t *testing.T) {
	const streams, batch = 1000, 100
	broker := startNATS(t)
	settings := []string{"NATS_URL=" + broker.ClientURL(), fmt.Sprintf("NODE_LEASE_SECONDS=%d", leaseSeconds), fmt.Sprintf("CALLBACK_BATCH=%d", batch), "LOG_LEVEL=warn"}
	n := &nodes{t: t, client: &http.Client{}, nats: broker, a: harness.StartGateway(t, binary, nil, settings...)}
	t.Cleanup(n.client.CloseIdleConnections)
	n.backend = n.a.Backend
	n.b = harness.StartGateway(t, binary, nil, append(settings, "CALLBACK_URL="+n.backend.URL("/callback"))...)
	for _, g := range []*harness.Gateway{n.a, n.b} {
		n.await("ready", func() bool { status, _ := n.call(g, http.MethodGet, "/readyz", ""); return status == http.StatusOK })
		n.awaitBoth(g)
	}
	for range streams {
		x, err := n.a.Endpoint.Do(t.Context(), harness.Request{Target: "/stream"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(x.HangUp)
		if head, err := x.Head(harness.Patience); err != nil || head.Status != http.StatusOK {
			t.Fatal(head, err)
		}
	}
	tokens := map[string]bool{}
	for _, c := range n.backend.Calls(func(c *harness.Callback) bool { return c.Action == "connect" }) {
		tokens[c.Token] = true
	}
	// All records are on the broker.
	n.await("recorded", func() bool {
		_, text := n.call(n.a, http.MethodGet, "/metrics", "")
		return strings.Contains(text, "\nssegateway_cluster_ledger_backlog 0\n")
	})
	n.a.Kill()
	killed := time.Now()
	posts := 0
	n.await("told of all", func() bool {
		told := map[string]bool{}
		calls := n.backend.Calls(func(c *harness.Callback) bool { return c.Action != "connect" })
		posts = len(calls)
		for _, c := range calls {
			var b struct {
				Events []struct{ Token, Reason, Detail string }
			}
			if err := json.Unmarshal(c.Body, &b); err != nil || c.Action != "disconnects" || len(b.Events) > batch {
				t.Fatalf("%v, %d events in %.200s", err, len(b.Events), c.Body)
			}
			for _, e := range b.Events {
				if told[e.Token] || !tokens[e.Token] || e.Reason != "error" || e.Detail != "gateway_lost" {
					t.Fatalf("event %+v", e)
				}
				told[e.Token] = true
			}
		}
		return len(told) == streams
	})
	t.Logf("%d streams by %d callbacks, %v after the kill", streams, posts, time.Since(killed).Round(time.Millisecond))
	if posts > streams/10 { // a slow machine fills few of them
		t.Errorf("%d callbacks", posts)
	}
}
