package server_test

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/e2e/harness"
)

// fullNodes are nodes on a NATS with a bound on storage, which connections have filled.
type fullNodes struct {
	*nodes

	broker   *natsserver.Server
	binary   string
	settings []string
	streams  []*harness.Exchange
}

const (
	fullStorage = 20 << 20
	fullStreams = 1200
	fullLease   = 8      // seconds; NATS takes its time to remove large records, the more with the race detector in it
	fullHeader  = 25_000 // bytes of each request's header
)

// startFull starts a node, and opens streams on it that fill the storage of NATS. Those that
// do not fit are told to come back.
func startFull(t *testing.T) *fullNodes {
	binary, err := harness.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	broker := startNATS(t)
	if err := broker.GlobalAccount().UpdateJetStreamLimits(map[string]natsserver.JetStreamAccountLimits{
		"": {MaxMemory: -1, MaxStore: fullStorage, MaxStreams: -1, MaxConsumers: -1},
	}); err != nil {
		t.Fatal(err)
	}
	f := &fullNodes{nodes: &nodes{t: t, client: &http.Client{}}, broker: broker, binary: binary}
	f.settings = []string{"NATS_URL=" + broker.ClientURL(), fmt.Sprintf("NODE_LEASE_SECONDS=%d", fullLease), "TOPIC_LOG_BYTES=1048576"}
	f.a = harness.StartGateway(t, binary, nil, f.settings...)
	f.backend = f.a.Backend
	t.Cleanup(f.client.CloseIdleConnections)
	f.awaitReady(f.a)

	large := strings.Repeat("x", fullHeader)
	next := make(chan int)
	var group sync.WaitGroup
	var mu sync.Mutex
	for range 16 {
		group.Go(func() {
			for i := range next {
				large := large
				if i > fullStreams*3/4 { // to fill what a large one does not fit into
					large = large[:(fullStreams-i)*4]
				}
				x, err := f.a.Endpoint.Do(t.Context(), harness.Request{
					Target: "/stream", Header: []harness.Field{{Name: harness.KeyHeader, Value: fmt.Sprint(i)}, {Name: "x-large", Value: large}},
				})
				if err != nil {
					t.Error(err)
					continue
				}
				if head, err := x.Head(harness.Patience); err != nil || head.Status != http.StatusOK {
					t.Error(head, err)
				}
				mu.Lock()
				f.streams = append(f.streams, x)
				mu.Unlock()
			}
		})
	}
	for i := range fullStreams {
		next <- i
	}
	close(next)
	group.Wait()
	for _, x := range f.streams {
		t.Cleanup(x.HangUp)
	}
	f.awaitNotReady(f.a)
	return f
}

func (f *fullNodes) awaitReady(g *harness.Gateway) {
	f.t.Helper()
	f.await("ready", func() bool { status, _ := f.call(g, http.MethodGet, "/readyz", ""); return status == http.StatusOK })
}

func (f *fullNodes) awaitNotReady(g *harness.Gateway) {
	f.t.Helper()
	f.await("without room", func() bool {
		status, body := f.call(g, http.MethodGet, "/readyz", "")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "the broker's storage is full")
	})
}

// accepted returns the keys of the connections that the backend accepted.
func (f *fullNodes) accepted() (keys []string) {
	for _, c := range f.backend.Calls(func(c *harness.Callback) bool { return c.Action == "connect" }) {
		keys = append(keys, c.Key)
	}
	return keys
}

// awaitTold waits until every end was told, but for those of so many connections, and checks
// that it was so once. It has patience as long as there are more and more: NATS takes its time to remove
// large records, the more on a machine with other work.
func (f *fullNodes) awaitTold(unrecorded int) {
	f.t.Helper()
	keys := f.accepted()
	if len(keys) < fullStorage/fullHeader/2 || len(keys) == fullStreams {
		f.t.Errorf("%d of %d connections were accepted", len(keys), fullStreams)
	}
	isEnd := func(c *harness.Callback) bool { return c.Action == "disconnect" }
	for ends := 0; ends < len(keys)-unrecorded; {
		calls, err := f.backend.Await(harness.Patience, ends+1, isEnd)
		if err != nil {
			break
		}
		ends = len(calls)
	}
	told := map[string]int{}
	for _, c := range f.backend.Calls(isEnd) {
		told[c.Key]++
	}
	missing := 0
	for _, key := range keys {
		switch told[key] {
		case 0:
			missing++
		case 1:
		default:
			f.t.Errorf("%s is told %d times", key, told[key])
		}
	}
	if missing > unrecorded {
		f.t.Errorf("of %d of %d nobody was told", missing, len(keys))
	}
}

// awaitNoRecords waits until no record is left on NATS. It has patience as long as they become fewer.
func (f *fullNodes) awaitNoRecords() {
	f.t.Helper()
	conn, err := nats.Connect(f.broker.ClientURL())
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		f.t.Fatal(err)
	}
	stream, err := js.Stream(f.t.Context(), "ssegateway_nodes")
	if err != nil {
		f.t.Fatal(err)
	}
	const others = 2 << 20 // the reserve, keys, and traces
	for left := uint64(math.MaxUint64); left >= others; {
		f.await("with fewer records", func() bool {
			info, err := stream.Info(f.t.Context())
			if err != nil || info.State.Bytes >= left {
				return false
			}
			left = info.State.Bytes
			return true
		})
	}
}

// Storage that is full of records costs no lease: when the clients leave, every end is told,
// nothing stays, and new clients are taken.
func TestStorageFull(t *testing.T) {
	f := startFull(t)
	for over := time.After(3 * fullLease * time.Second / 2); ; {
		if _, body := f.call(f.a, http.MethodGet, "/metrics", ""); !strings.Contains(body, "\nssegateway_cluster_lease_held 1\n") {
			t.Fatal("the lease is lost")
		}
		select {
		case <-over:
		case <-time.After(100 * time.Millisecond):
			continue
		}
		break
	}
	f.want(f.a, http.MethodPost, "/internal/publish", `{"topics":["x"],"event":{"data":"1"}}`, http.StatusServiceUnavailable, "BROKER_UNAVAILABLE")
	b := harness.StartGateway(t, f.binary, nil, append(f.settings, "CALLBACK_URL="+f.backend.URL("/callback"))...)
	for _, x := range f.streams {
		x.HangUp()
	}
	f.awaitTold(0)
	f.awaitNoRecords()
	for i, g := range []*harness.Gateway{f.a, b} {
		f.awaitReady(g)
		f.open(g, fmt.Sprint("again", i), "")
		f.want(g, http.MethodPost, "/internal/publish", `{"topics":["x"],"event":{"data":"1"}}`, http.StatusOK, "")
	}
}

// A node that starts on storage which is full of a dead one's records tells of them, and
// there is room again.
func TestStorageFullOfADeadNode(t *testing.T) {
	f := startFull(t)
	_, text := f.call(f.a, http.MethodGet, "/metrics", "")
	_, text, _ = strings.Cut(text, "\nssegateway_cluster_ledger_backlog ")
	text, _, _ = strings.Cut(text, "\n")
	unrecorded, err := strconv.Atoi(text) // for want of an answer of NATS in time
	if err != nil || unrecorded > fullStorage/fullHeader/4 {
		t.Fatalf("%d records wait, %v", unrecorded, err)
	}
	f.a.Kill()
	b := harness.StartGateway(t, f.binary, nil, append(f.settings, "CALLBACK_URL="+f.backend.URL("/callback"))...)
	f.awaitTold(unrecorded)
	f.awaitNoRecords()
	f.awaitReady(b)
	f.open(b, "again", "")
}
