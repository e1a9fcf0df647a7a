package broker

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/e2e/harness"
)

// natsCluster is three NATS servers, as processes that can be killed.
type natsCluster struct {
	t       *testing.T
	binary  string
	args    map[string][]string // by the server's name
	urls    []string
	servers map[string]*harness.Process
}

func startNATSCluster(t *testing.T) *natsCluster {
	t.Helper()
	c := &natsCluster{t: t, binary: filepath.Join(t.TempDir(), "nats-server"), args: map[string][]string{}, servers: map[string]*harness.Process{}}
	if err := harness.BuildNATS(c.binary); err != nil {
		t.Fatal(err)
	}
	port := func() int {
		p, err := harness.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	var routes []string
	for _, name := range []string{"n1", "n2", "n3"} {
		client, route := port(), port()
		c.urls = append(c.urls, fmt.Sprintf("nats://127.0.0.1:%d", client))
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", route))
		c.args[name] = []string{
			"--name", name, "--addr", "127.0.0.1", "--port", fmt.Sprint(client), "--jetstream", "--store_dir", t.TempDir(),
			"--cluster_name", "c", "--cluster", fmt.Sprintf("nats://127.0.0.1:%d", route),
		}
	}
	for name := range c.args {
		c.args[name] = append(c.args[name], "--routes", strings.Join(routes, ","))
		c.start(name)
	}
	t.Cleanup(func() {
		for _, p := range c.servers {
			p.Kill()
		}
	})
	return c
}

func (c *natsCluster) start(name string) {
	c.t.Helper()
	p, err := harness.Run(harness.Command{Args: append([]string{c.binary}, c.args[name]...)})
	if err != nil {
		c.t.Fatal(err)
	}
	c.servers[name] = p
}

// leader returns the name of the server that leads a JetStream stream, once all three replicas are up to date.
func (c *natsCluster) leader(stream string) string {
	c.t.Helper()
	conn, err := nats.Connect(strings.Join(c.urls, ","))
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		c.t.Fatal(err)
	}
	for end := time.Now().Add(harness.Patience); time.Now().Before(end); <-time.After(100 * time.Millisecond) {
		s, err := js.Stream(c.t.Context(), stream)
		if err != nil {
			continue
		}
		info := s.CachedInfo().Cluster
		current := 0
		for _, r := range info.Replicas {
			if r.Current {
				current++
			}
		}
		if info.Leader != "" && current == 2 {
			return info.Leader
		}
	}
	c.t.Fatalf("%s has no leader with two replicas", stream)
	return ""
}

// published is a publish, and its answer.
type published struct {
	data   string
	status int
	id     string
	took   time.Duration
}

// The leader of the log among three NATS servers is killed again and again, each in turn,
// while events are published through two nodes. Every event that was answered with 200
// arrives once, none arrives twice, and there is no gap. The test logs how many were answered
// with 503, and how long the slowest took.
func TestLeaderKilled(t *testing.T) {
	const (
		interval = 10 * time.Millisecond // between two publishes
		after    = 8 * time.Second       // a kill
	)
	c := startNATSCluster(t)
	settings := []string{"NATS_URL=" + strings.Join(c.urls, ","), "NATS_REPLICAS=3"}
	first := start(t, settings...)
	sites := []*site{first, start(t, append(settings, "CALLBACK_URL="+first.Backend.URL("/callback"))...)}
	for _, s := range sites {
		s.becomes(http.StatusOK)
	}
	streams := []*stream{sites[0].open(""), sites[1].open("")}

	var group sync.WaitGroup
	var mu sync.Mutex
	var all []published
	stop := make(chan struct{})
	group.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(interval):
			}
			group.Go(func() {
				p := published{data: fmt.Sprint("event ", n)}
				begin := time.Now()
				status, answer := sites[n%2].call(http.MethodPost, "/internal/publish", publication(p.data))
				p.status, p.took = status, time.Since(begin)
				_, p.id, _ = strings.Cut(answer, `"id":"`)
				p.id, _, _ = strings.Cut(p.id, `"`)
				mu.Lock()
				defer mu.Unlock()
				all = append(all, p)
			})
		}
	})
	for range 3 {
		name := c.leader("ssegateway_log")
		c.servers[name].Kill()
		<-time.After(after)
		c.start(name)
		for _, s := range sites {
			s.becomes(http.StatusOK)
		}
	}
	c.leader("ssegateway_log")
	close(stop)
	group.Wait()

	failed, longest, longest200 := map[int]int{}, time.Duration(0), time.Duration(0)
	for _, p := range all {
		longest = max(longest, p.took)
		if p.status == http.StatusOK {
			longest200 = max(longest200, p.took)
		} else {
			failed[p.status]++
		}
	}
	if n := failed[http.StatusServiceUnavailable]; len(failed) > 1 || len(failed) == 1 && n == 0 { // an election may take longer than the timeout of a publish
		t.Errorf("of %d publishes these were not answered with 200 or 503: %v", len(all), failed)
	}
	t.Logf("%d publishes, not answered with 200: %v; the longest took %v, with a 200 %v", len(all), failed, longest.Round(time.Millisecond), longest200.Round(time.Millisecond))
	last := event(sites[0].publish("last"), "last")
	for i, x := range streams {
		text := x.until(last)
		if strings.Contains(text, "event: gap") {
			t.Errorf("stream %d has a gap", i)
		}
		for _, p := range all {
			got, want := strings.Count(text, "\ndata: "+p.data+"\n\n"), 1
			if p.status != http.StatusOK {
				want = min(got, 1) // either is allowed, because the outcome is unknown
			}
			if got != want || p.status == http.StatusOK && !strings.Contains(text, event(p.id, p.data)) {
				t.Errorf("stream %d has %q %d times; it was answered with %d", i, p.data, got, p.status)
			}
		}
	}
}

// until reads events up to a given one.
func (x *stream) until(event string) string {
	x.t.Helper()
	var text []byte
	for !strings.HasSuffix(string(text[max(0, len(text)-len(event)):]), event) {
		next, err := x.Next(1, harness.Patience)
		if err != nil {
			x.t.Fatal(err)
		}
		text = append(text, next...)
	}
	return string(text)
}
