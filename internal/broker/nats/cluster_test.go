package nats

import (
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"ssegateway/e2e/harness"
)

// serveCluster runs three servers that keep everything together.
func serveCluster(t *testing.T) map[string]*server.Server {
	t.Helper()
	ports := map[string]int{}
	var routes []*url.URL // all of them have to know all at their start
	for _, name := range []string{"n1", "n2", "n3"} {
		port, err := harness.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		ports[name] = port
		routes = append(routes, &url.URL{Scheme: "nats", Host: "127.0.0.1:" + strconv.Itoa(port)})
	}
	servers := map[string]*server.Server{}
	for name, port := range ports {
		servers[name] = start(t, server.Options{
			ServerName: name, Port: -1, JetStream: true, StoreDir: t.TempDir(), Routes: routes,
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: port},
		})
	}
	for end := time.Now().Add(patience); ; {
		for _, s := range servers {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(servers) {
				return servers
			}
		}
		if time.Now().After(end) {
			t.Fatal("the servers have no leader")
		}
		<-time.After(20 * time.Millisecond)
	}
}

// With replicas on three servers the log outlives the one that leads it: whatever was
// acknowledged is there, in the same log, and every node goes on behind it.
func TestLeaderDies(t *testing.T) {
	t.Parallel()
	servers := serveCluster(t)
	var urls []string
	for _, s := range servers {
		urls = append(urls, s.ClientURL())
	}
	cfg := at(strings.Join(urls, ","))
	cfg.Replicas = 3
	publisher, other := mustEngine(t, cfg), mustEngine(t, cfg)
	runEngine(t, publisher)
	runEngine(t, other)
	epoch := publisher.Log().Epoch()
	tailer, _ := other.Log().Tail()

	stream := mustStream(t, publisher.session)
	if have := stream.CachedInfo().Config.Replicas; have != 3 {
		t.Fatalf("%d replicas", have)
	}
	last := append1(t, publisher, "1")
	for range 20 {
		last = append1(t, publisher, "x")
	}
	shutdown(servers[stream.CachedInfo().Cluster.Leader])
	after := append1(t, publisher, "2")
	if after.Epoch != epoch || after.Offset <= last.Offset || other.Log().Epoch() != epoch {
		t.Errorf("%v comes behind %v", after, last)
	}
	for offset := uint64(1); offset <= after.Offset; offset++ {
		if r := next(t, tailer); r.Stored && r.Offset != offset { // the engine itself may add one that is not stored
			t.Fatalf("%d comes where %d is due", r.Offset, offset)
		}
	}
}
