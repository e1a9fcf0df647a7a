package nodes_test

import (
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/e2e/harness"
)

// fullNodes are nodes on a NATS with a bound on storage, which connections have filled.
type fullNodes struct {
	*nodes

	broker   *natsserver.Server
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
	broker := startNATS(t)
	if err := broker.GlobalAccount().UpdateJetStreamLimits(map[string]natsserver.JetStreamAccountLimits{
		"": {MaxMemory: -1, MaxStore: fullStorage, MaxStreams: -1, MaxConsumers: -1},
	}); err != nil {
		t.Fatal(err)
	}
	f := &fullNodes{nodes: &nodes{t: t, client: &http.Client{}}, broker: broker}
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

// delivered is the line of a gateway about an end that the backend has confirmed.
var delivered = regexp.MustCompile(`callback action=disconnect token=(\S+) status=\d+ result=delivered .*attempt=(\d+)`)

// awaitTold waits until every end was told by one of these gateways, but for those of so many connections, and checks
// that it was so once. It has patience as long as there are more and more: NATS takes its time to remove
// large records, the more on a machine with other work. There the backend may answer too late as well, so that a
// gateway tells it again.
func (f *fullNodes) awaitTold(unrecorded int, tellers ...*harness.Gateway) {
	f.t.Helper()
	isEnd := func(c *harness.Callback) bool { return c.Action == "disconnect" }
	keys := map[string]string{} // of the connections that the backend accepted, by token
	for _, c := range f.backend.Calls(func(c *harness.Callback) bool { return c.Action == "connect" }) {
		keys[c.Token] = c.Key
	}
	if len(keys) < fullStorage/fullHeader/2 || len(keys) == fullStreams {
		f.t.Errorf("%d of %d connections were accepted", len(keys), fullStreams)
	}
	calls, told := []*harness.Callback(nil), map[string]bool{}
	for len(told) < len(keys)-unrecorded {
		all, err := f.backend.Await(harness.Patience, len(calls)+1, isEnd)
		if err != nil {
			f.t.Errorf("of %d of %d nobody was told, and %d were not recorded", len(keys)-len(told), len(keys), unrecorded)
			break
		}
		for _, c := range all[len(calls):] {
			told[c.Token] = true
		}
		calls = all
	}
	confirmed, attempts := map[string]int{}, map[string]int{}
	for len(confirmed) < len(told) {
		f.await("with more ends confirmed", func() bool {
			before := len(confirmed)
			clear(confirmed)
			clear(attempts)
			for _, g := range tellers {
				for _, line := range delivered.FindAllStringSubmatch(g.Log.Text(), -1) {
					attempt, _ := strconv.Atoi(line[2])
					confirmed[line[1]]++
					attempts[line[1]] += attempt
				}
			}
			return len(confirmed) > before
		})
	}
	repeats := map[string]int{}
	for _, c := range f.backend.Calls(isEnd) {
		repeats[c.Token]++
	}
	for token, n := range repeats {
		if confirmed[token] != 1 || n > attempts[token] {
			f.t.Errorf("%s is told %d times in %d attempts, of which %d succeeded", keys[token], n, attempts[token], confirmed[token])
		}
	}
}

// store returns the stream of the nodes.
func (f *fullNodes) store() jetstream.Stream {
	f.t.Helper()
	conn, err := nats.Connect(f.broker.ClientURL())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		f.t.Fatal(err)
	}
	stream, err := js.Stream(f.t.Context(), "ssegateway_nodes")
	if err != nil {
		f.t.Fatal(err)
	}
	return stream
}

// awaitRenewals waits until the only node has renewed its lease so many times.
func (f *fullNodes) awaitRenewals(n int) {
	f.t.Helper()
	stream, last := f.store(), uint64(0)
	for range n + 1 { // the first was before
		f.await("renewing its lease", func() bool {
			key, err := stream.GetLastMsgForSubject(f.t.Context(), "ssegateway.nodes.*.key.*")
			if err != nil || key.Sequence == last {
				return false
			}
			last = key.Sequence
			return true
		})
	}
}

// awaitNoRecords waits until no record is left on NATS. It has patience as long as they become fewer.
func (f *fullNodes) awaitNoRecords() {
	f.t.Helper()
	stream := f.store()
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
	f.awaitRenewals(3 * 8 / 2) // eight make up the length of a lease
	if strings.Contains(f.a.Log.Text(), "lease lost") {
		t.Error("the lease was lost")
	}
	f.want(f.a, http.MethodPost, "/internal/publish", `{"topics":["x"],"event":{"data":"1"}}`, http.StatusServiceUnavailable, "BROKER_UNAVAILABLE")
	b := harness.StartGateway(t, binary, nil, append(f.settings, "CALLBACK_URL="+f.backend.URL("/callback"))...)
	for _, x := range f.streams {
		x.HangUp()
	}
	f.awaitTold(0, f.a, b)
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
	b := harness.StartGateway(t, binary, nil, append(f.settings, "CALLBACK_URL="+f.backend.URL("/callback"))...)
	f.awaitTold(unrecorded, b)
	f.awaitNoRecords()
	f.awaitReady(b)
	f.open(b, "again", "")
}
