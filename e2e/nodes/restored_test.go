package nodes_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"ssegateway/e2e/harness"
)

// NATS is back with a copy of its directory. What was recorded since the copy is told of
// when its node dies.
func TestStoreRestored(t *testing.T) {
	t.Parallel()
	dir, copied := t.TempDir(), t.TempDir()
	var port int
	n := startNodes(t, func(o *natsserver.Options) {
		free, err := harness.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		port, o.Port, o.StoreDir = free, free, dir
	})
	var keys []string
	open := func(key string) {
		n.open(n.a, key, "")
		keys = append(keys, key)
	}
	open("before")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		open(fmt.Sprint("since", i))
	}
	n.nats.Shutdown()
	n.nats.WaitForShutdown()
	n.await("not ready", func() bool { status, _ := n.call(n.a, http.MethodGet, "/readyz", ""); return status != http.StatusOK })
	startNATS(t, func(o *natsserver.Options) { o.Port, o.StoreDir = port, copied })
	for _, g := range []*harness.Gateway{n.a, n.b} {
		n.await("back", func() bool {
			_, metrics := n.call(g, http.MethodGet, "/metrics", "")
			status, _ := n.call(g, http.MethodGet, "/readyz", "")
			return status == http.StatusOK && strings.Contains(metrics, "\nssegateway_cluster_lease_held 1\n") &&
				strings.Contains(metrics, "\nssegateway_cluster_ledger_backlog 0\n")
		})
	}
	n.a.Kill()
	for _, key := range keys {
		if c := n.callback("disconnect", key); c.Detail != "gateway_lost" {
			t.Errorf("%s was told as %s %s", key, c.Reason, c.Detail)
		}
	}
}
