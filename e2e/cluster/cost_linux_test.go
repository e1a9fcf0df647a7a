package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ssegateway/bench"
	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/netns"
)

// An event published on one node reaches every stream on all three nodes, once. The test
// prints how long that takes.
func TestFanout(t *testing.T) {
	s := newSite(t)
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	streams := nodeCount * *clients
	cmd := exec.Command(filepath.Join(dir, "ssegateway"), "bench", "fanout", "--json", "--events", "20",
		"--streams", strconv.Itoa(streams),
		"--url", "http://"+addresses[nginxHost][front]+"/events/{n}",
		"--publish-url", internal(0)+"/internal/publish",
		"--publish-body", `{"topic":"`+topicName(everybody)+`","event":{"data":"{data}"}}`)
	servers := append([]*server{s.nats, s.nginx}, s.nodes...)
	before := map[string]time.Duration{}
	for _, p := range servers {
		before[p.host] = p.cpu()
	}
	out, err := cmd.Output()
	var report bench.Report
	if jsonErr := json.Unmarshal(out, &report); err != nil || jsonErr != nil || len(report.Results) != 1 {
		t.Fatalf("%v: %v, %v\n%s", cmd.Args, err, jsonErr, out)
	}
	if got := report.Results[0].Check.Events; got != int64(20*streams) {
		t.Errorf("%d deliveries, want %d", got, 20*streams)
	}
	var b strings.Builder
	_ = report.Print(&b)
	t.Logf("three nodes behind nginx, published on node 1:\n%s", b.String())
	for _, p := range servers {
		t.Logf("%s: %v of CPU for %d connects, 20 events and the ends; at most %d MiB resident", p.host, p.cpu()-before[p.host], streams, p.peakMiB())
	}
}

// cpu returns the processor time of the process so far, in steps of 10 ms.
func (p *server) cpu() time.Duration {
	used, err := p.CPU()
	if err != nil {
		p.t.Fatal(err)
	}
	return used
}

// peakMiB returns the peak resident memory of the process.
func (p *server) peakMiB() int64 {
	n, err := p.Memory("VmHWM")
	if err != nil {
		p.t.Fatal(err)
	}
	return n >> 20
}

// A send through a node that does not own the connection costs two broker hops (the request
// and its answer) and little time.
func TestRelay(t *testing.T) {
	const rounds, sends = 5, 300
	// How much later a relayed send may be answered, at the 99th percentile.
	limit := 50 * time.Millisecond
	if *strict {
		limit = 3 * time.Millisecond
	}
	s := newSite(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := s.newClient(0, true)
	c.addr = net.JoinHostPort(addresses[nodeHost(0)][front], publicPort)
	s.present.Go(func() { c.run(ctx) })
	defer s.present.Wait()
	defer cancel()
	if !within(harness.Patience, c.connected) {
		t.Fatal("no stream")
	}
	token := c.stream().token
	send := func(node int) time.Duration {
		begin := time.Now()
		status, answer := s.post(internal(node)+"/internal/send", map[string]any{
			"token": token, "event": map[string]string{"name": "sent", "data": "0"},
		})
		took := time.Since(begin)
		if status != http.StatusOK {
			t.Fatalf("send through node %d: %d %v", node+1, status, answer)
		}
		return took
	}
	for range 50 { // warm up: connections are open, and code was run
		send(0)
		send(1)
	}
	messages := s.natsMessages()
	begin := time.Now()
	var more []time.Duration
	for round := range rounds {
		var local, foreign []time.Duration
		for range sends {
			local = append(local, send(0))
			foreign = append(foreign, send(1))
		}
		slices.Sort(local)
		slices.Sort(foreign)
		at := func(d []time.Duration, p int) time.Duration { return d[len(d)*p/100].Round(time.Microsecond) }
		t.Logf("round %d: local p50 %v p99 %v, foreign p50 %v p99 %v", round+1, at(local, 50), at(local, 99), at(foreign, 50), at(foreign, 99))
		more = append(more, at(foreign, 99)-at(local, 99))
	}
	slices.Sort(more)
	t.Logf("foreign minus local, p99, median of %d rounds: %v", rounds, more[rounds/2])
	if more[rounds/2] > limit {
		t.Errorf("a relayed send is answered more than %v later", limit)
	}
	// Besides the hops, nodes send other messages to NATS. Their number is measured while idle.
	took := time.Since(begin)
	busy := s.natsMessages() - messages
	messages = s.natsMessages()
	<-time.After(time.Second)
	idle := float64(s.natsMessages()-messages) * took.Seconds()
	hops := (float64(busy) - idle) / (rounds * sends)
	t.Logf("%.2f messages to NATS for each relayed send", hops)
	if hops > 2.5 {
		t.Error("more than two broker hops")
	}
}

// natsMessages returns how many messages NATS has received so far.
func (s *site) natsMessages() int {
	s.t.Helper()
	command := netns.On(s.t, nodeHost(0), "curl", "-s", "http://"+net.JoinHostPort(addresses[natsHost][back], natsMonitor)+"/varz")
	out, err := exec.Command(command[0], command[1:]...).Output()
	var varz struct {
		InMsgs int `json:"in_msgs"`
	}
	if jsonErr := json.Unmarshal(out, &varz); err != nil || jsonErr != nil {
		s.t.Fatal(fmt.Errorf("%w %w: %s", err, jsonErr, out))
	}
	return varz.InMsgs
}
