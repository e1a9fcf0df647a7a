package nodes_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"ssegateway/e2e/harness"
)

// nodes are two gateways on one NATS, with one backend.
type nodes struct {
	t       *testing.T
	a, b    *harness.Gateway
	backend *harness.Backend
	client  *http.Client
	nats    *natsserver.Server
}

const leaseSeconds = 3

var binary string

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, func(dir string) (err error) {
		binary, err = harness.Build(dir)
		return err
	}))
}

// startNATS starts a server, and returns it with its address.
func startNATS(t *testing.T, change ...func(*natsserver.Options)) *natsserver.Server {
	t.Helper()
	options := &natsserver.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
	}
	for _, f := range change {
		f(options)
	}
	broker, err := natsserver.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	broker.Start()
	t.Cleanup(func() {
		broker.Shutdown()
		broker.WaitForShutdown()
	})
	if !broker.ReadyForConnections(harness.Patience) {
		t.Fatal("NATS is not ready")
	}
	return broker
}

func startNodes(t *testing.T, change ...func(*natsserver.Options)) *nodes {
	t.Helper()
	return startNodesOf(t, binary, binary, change...)
}

// startNodesOf starts node a by one program, and b by another.
func startNodesOf(t *testing.T, a, b string, change ...func(*natsserver.Options)) *nodes {
	t.Helper()
	return startNodesWith(t, a, b, nil, change...)
}

func startNodesWith(t *testing.T, a, b string, settings []string, change ...func(*natsserver.Options)) *nodes {
	t.Helper()
	broker := startNATS(t, change...)
	settings = append(settings, "NATS_URL="+broker.ClientURL(), fmt.Sprintf("NODE_LEASE_SECONDS=%d", leaseSeconds))
	n := &nodes{t: t, client: &http.Client{}, nats: broker}
	n.a = harness.StartGateway(t, a, nil, settings...)
	n.backend = n.a.Backend
	n.b = harness.StartGateway(t, b, nil, append(settings, "CALLBACK_URL="+n.backend.URL("/callback"))...)
	t.Cleanup(n.client.CloseIdleConnections)
	for _, g := range []*harness.Gateway{n.a, n.b} {
		n.await("ready", func() bool { status, _ := n.call(g, http.MethodGet, "/readyz", ""); return status == http.StatusOK })
		n.awaitBoth(g)
	}
	return n
}

// await asks again until something is as it should be.
func (n *nodes) await(what string, ok func() bool) {
	n.t.Helper()
	over := time.After(harness.Patience)
	for tick := time.NewTicker(20 * time.Millisecond); !ok(); {
		select {
		case <-tick.C:
		case <-over:
			n.t.Fatalf("not %s", what)
		}
	}
}

// awaitBoth waits until a node has seen the other.
func (n *nodes) awaitBoth(g *harness.Gateway) {
	n.t.Helper()
	n.await("both nodes seen", func() bool {
		var stats struct {
			Cluster struct {
				Nodes []string `json:"nodes"`
			} `json:"cluster"`
		}
		_, body := n.call(g, http.MethodGet, "/internal/stats", "")
		return json.Unmarshal([]byte(body), &stats) == nil && len(stats.Cluster.Nodes) == 2
	})
}

func (n *nodes) call(g *harness.Gateway, method, target, body string) (status int, answer string) {
	n.t.Helper()
	r, err := http.NewRequestWithContext(n.t.Context(), method, "http://"+g.Endpoint.Addr+target, strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	return n.do(r)
}

func (n *nodes) do(r *http.Request) (status int, answer string) {
	n.t.Helper()
	resp, err := n.client.Do(r)
	if err != nil {
		n.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func (n *nodes) want(g *harness.Gateway, method, target, body string, status int, part string) {
	n.t.Helper()
	if got, answer := n.call(g, method, target, body); got != status || !strings.Contains(answer, part) {
		n.t.Errorf("%s %s %s: %d %s, want %d %s", method, target, body, got, answer, status, part)
	}
}

func (n *nodes) send(g *harness.Gateway, token, more string, status int, part string) {
	n.t.Helper()
	n.want(g, http.MethodPost, "/internal/send", `{"token":"`+token+`"`+more+`}`, status, part)
}

// open opens a stream, with a key of its own.
func (n *nodes) open(g *harness.Gateway, key, grant string) (*harness.Exchange, string) {
	n.t.Helper()
	n.backend.On(key, harness.Script{Connect: func(*harness.Callback) harness.Answer { return harness.Answer{Body: grant} }})
	x, err := g.Endpoint.Do(n.t.Context(), harness.Request{Target: "/stream", Header: []harness.Field{{Name: harness.KeyHeader, Value: key}}})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(x.HangUp)
	if head, err := x.Head(harness.Patience); err != nil || head.Status != http.StatusOK {
		n.t.Fatal(head, err)
	}
	return x, n.callback("connect", key).Token
}

func (n *nodes) callback(action, key string) *harness.Callback {
	n.t.Helper()
	calls, err := n.backend.Await(harness.Patience, 1, func(c *harness.Callback) bool { return c.Action == action && c.Key == key })
	if err != nil {
		n.t.Fatal(action, key, err)
	}
	return calls[0]
}

func (n *nodes) reads(x *harness.Exchange, want string) {
	n.t.Helper()
	if got, err := x.Next(len(want), harness.Patience); err != nil || got != want {
		n.t.Errorf("%q, %v, want %q", got, err, want)
	}
}

// Two gateways on one NATS are one: a token is good at either, and what one of them held
// when it was killed the other tells.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	n := startNodes(t)
	x, token := n.open(n.a, "x", `{"subject":"ada"}`)
	n.send(n.b, token, `,"event":{"data":"1"}`, 200, `{"status":"ok"}`)
	n.send(n.b, token, `,"event":{"data":"2"},"wait":"written"`, 200, `{"status":"written"}`)
	n.reads(x, "data: 1\n\ndata: 2\n\n")

	answered := make(chan struct{})
	n.backend.On("pending", harness.Script{Connect: func(*harness.Callback) harness.Answer {
		<-answered
		return harness.Answer{}
	}})
	pending, err := n.a.Endpoint.Do(t.Context(), harness.Request{Target: "/stream", Header: []harness.Field{{Name: harness.KeyHeader, Value: "pending"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pending.HangUp)
	waiting := n.callback("connect", "pending").Token
	n.send(n.b, waiting, `,"event":{"data":"3"}`, 200, `{"status":"buffered"}`)
	close(answered)
	n.reads(pending, "data: 3\n\n")

	var all []string
	for i := range 4 {
		_, token := n.open([]*harness.Gateway{n.a, n.b}[i%2], fmt.Sprint("many", i), `{"subject":"bob","topics":["t"]}`)
		all = append(all, token)
	}
	for _, g := range []*harness.Gateway{n.a, n.b} {
		_, body := n.call(g, http.MethodGet, "/internal/connections?subject=bob", "")
		var page struct{ Connections []struct{ Token string } }
		if err := json.Unmarshal([]byte(body), &page); err != nil {
			t.Fatal(err, body)
		}
		var listed []string
		for _, c := range page.Connections {
			listed = append(listed, c.Token)
		}
		if slices.Sort(all); !slices.Equal(listed, all) {
			t.Errorf("listed %v, want %v", listed, all)
		}
	}
	n.want(n.b, http.MethodPost, "/internal/publish", `{"topic":"t","event":{"data":"x"},"count":"all"}`, 200, `"receivers":4}`)
	n.want(n.b, http.MethodDelete, "/internal/connections?subject=bob", "", 200, `{"closed":4}`)
	for i := range 4 {
		if c := n.callback("disconnect", fmt.Sprint("many", i)); c.Reason != "server_closed" {
			t.Errorf("reason %s", c.Reason)
		}
	}

	n.streamUntilGone()
	n.send(n.b, token, `,"event":{"data":"bye"},"close":true`, 200, `{"status":"ok"}`)
	n.reads(x, "data: bye\n\n")
	n.send(n.b, token, "", 404, `TOKEN_NOT_FOUND`)

	_, held := n.open(n.a, "held", "")
	n.latency(held)
	n.a.Kill()
	n.send(n.b, held, "", 503, `NODE_UNREACHABLE`)
	killed := time.Now()
	for _, key := range []string{"held", "pending"} {
		if c := n.callback("disconnect", key); c.Reason != "error" || c.Detail != "gateway_lost" {
			t.Errorf("%s: %s, %s", key, c.Reason, c.Detail)
		}
	}
	t.Logf("told %v after the kill, with a lease of %d s", time.Since(killed).Round(time.Millisecond), leaseSeconds)
	n.send(n.b, held, "", 404, `TOKEN_NOT_FOUND`)
}

// While NATS takes no records a gateway keeps of connections what it has yet to record, up to a
// bound. Beyond it clients are told to come back, and the backend is not asked.
func TestHeldWhileNATSTakesNoRecords(t *testing.T) {
	broker := startNATS(t)
	g := harness.StartGateway(t, binary, nil, "NATS_URL="+broker.ClientURL(), "MAX_CONNECTIONS=256", "CALLBACK_CONCURRENCY=256", "LOG_LEVEL=warn")
	g.Backend.On("", harness.Script{Connect: func(*harness.Callback) harness.Answer { return harness.Answer{Status: http.StatusForbidden} }})
	n := &nodes{t: t, a: g, backend: g.Backend, client: &http.Client{}}
	t.Cleanup(n.client.CloseIdleConnections)
	n.await("ready", func() bool { status, _ := n.call(g, http.MethodGet, "/readyz", ""); return status == http.StatusOK })
	if err := broker.DisableJetStream(); err != nil { // what is sent from now on may have arrived, as far as the gateway knows
		t.Fatal(err)
	}

	const (
		bound = 64<<20 + 256<<10
		size  = 50 << 10 // of a request, whose header is half as long: quotes are escaped
		many  = bound/size + 512
	)
	large := strings.Repeat(`"`, size/2)
	var asked, back atomic.Int64
	var strangers sync.WaitGroup
	turns := make(chan struct{}, 200)
	for range many {
		turns <- struct{}{}
		strangers.Go(func() {
			defer func() { <-turns }()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+g.Endpoint.Addr+"/stream", nil)
			if err != nil {
				t.Error(err)
				return
			}
			r.Header.Set("X-Large", large)
			resp, err := n.client.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			text, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			switch {
			case resp.StatusCode == http.StatusForbidden && strings.Contains(string(text), "BACKEND_FORBIDDEN"):
				asked.Add(1)
			case resp.StatusCode == http.StatusOK && strings.HasPrefix(string(text), "retry: "):
				back.Add(1)
			default:
				t.Errorf("%d %q", resp.StatusCode, text)
			}
		})
	}
	strangers.Wait()
	if most := int64(bound/size + cap(turns)); asked.Load() > most || asked.Load() < most*3/4 || back.Load() == 0 {
		t.Errorf("about %d clients the backend was to be asked, want %d; %d were told to come back", asked.Load(), bound/size, back.Load())
	}
	_, text := n.call(g, http.MethodGet, "/metrics", "")
	if want := fmt.Sprintf("\nssegateway_cluster_refused_total %d\n", back.Load()); !strings.Contains(text, want) {
		t.Errorf("the metrics do not say %q", want)
	}
	if lines := g.Log.Count(harness.Patience, regexp.MustCompile(`come back later reason="too much waits`)); lines == 0 || lines > 10 {
		t.Errorf("%d lines of the log say so", lines)
	}
}

// streamUntilGone makes a streaming request to the node that does not hold the connection,
// whose client leaves in the middle of it.
func (n *nodes) streamUntilGone() {
	n.t.Helper()
	x, token := n.open(n.a, "streamed", "")
	body, in := io.Pipe()
	r, err := http.NewRequestWithContext(n.t.Context(), http.MethodPost, "http://"+n.b.Endpoint.Addr+"/internal/connections/"+token+"/stream", body)
	if err != nil {
		n.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-ndjson")
	status := make(chan int, 1)
	go func() {
		resp, err := n.client.Do(r)
		if err != nil {
			status <- 0
			return
		}
		_ = resp.Body.Close()
		status <- resp.StatusCode
	}()
	for i := range 3 {
		_, _ = fmt.Fprintf(in, "{\"data\":\"%d\"}\n", i)
	}
	n.reads(x, "data: 0\n\ndata: 1\n\ndata: 2\n\n")
	x.Leave()
	select {
	case got := <-status:
		if got != http.StatusGone {
			n.t.Errorf("status %d, want 410", got)
		}
	case <-time.After(harness.Patience):
		n.t.Error("the sender is not told that the client has left")
	}
	_ = in.Close()
	n.callback("disconnect", "streamed")
}

// latency says what a send costs at the node that holds the connection, and at the other.
func (n *nodes) latency(token string) {
	n.t.Helper()
	const sends = 300
	for name, g := range map[string]*harness.Gateway{"own": n.a, "other": n.b} {
		var took []time.Duration
		for range sends {
			start := time.Now()
			n.send(g, token, `,"event":{"data":"x"}`, 200, `ok`)
			took = append(took, time.Since(start))
		}
		slices.Sort(took)
		n.t.Logf("a send to the %s node: p50 %v, p99 %v", name, took[sends/2], took[sends*99/100])
	}
}
