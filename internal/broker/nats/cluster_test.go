package nats

import (
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"ssegateway/e2e/harness"
	"ssegateway/internal/broker"
	"ssegateway/sse"
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

// Events that are appended while the leader goes, and the server that a node is connected to
// with it, are stored all the same: each once.
func TestAppendWhileTheLeaderGoes(t *testing.T) {
	t.Parallel()
	servers := serveCluster(t)
	var urls []string
	for _, s := range servers {
		urls = append(urls, s.ClientURL())
	}
	cfg := at(strings.Join(urls, ","))
	cfg.Replicas = 3
	e := mustEngine(t, cfg)
	runEngine(t, e)
	tailer, _ := e.Log().Tail()
	leader := servers[mustStream(t, e.session).CachedInfo().Cluster.Leader]
	const all = 400
	var group sync.WaitGroup
	for i := range all {
		if i == all/4 {
			go shutdown(leader)
		}
		group.Go(func() {
			if _, err := e.Append(t.Context(), broker.Publication{Topics: []string{"a"}, Event: sse.Event{Data: strconv.Itoa(i)}, Store: true, Ref: uint64(i + 1)}); err != nil {
				t.Errorf("%d: %v", i, err)
			}
		})
		<-time.After(5 * time.Millisecond)
	}
	group.Wait()
	seen := map[uint64]bool{}
	for range all {
		seen[next(t, tailer).Ref] = true
	}
	if stats := e.Log().Stats(); len(seen) != all || stats.Last != all {
		t.Errorf("%d events are in the log, up to %d, want %d", len(seen), stats.Last, all)
	}
}

// Where NATS would not know an event again for long enough, it is appended once.
func TestNoRepeatWithAShortWindow(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	for age, want := range map[time.Duration]bool{time.Second: false, leastWindow - time.Second: false, leastWindow: true, time.Hour: true} {
		cfg := at(s.ClientURL())
		cfg.Prefix, cfg.MaxAge = "x"+age.String(), age
		if e := mustOpen(t, cfg); e.repeats != want {
			t.Errorf("with events that last %v it is appended again: %v, want %v", age, e.repeats, want)
		}
	}
}
