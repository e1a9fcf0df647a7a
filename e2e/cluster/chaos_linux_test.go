package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/netns"
)

// fault is a fault that happened in a run.
type fault struct {
	kind        string
	node        int // that has the fault; -1: all
	begin, heal time.Time
	well        time.Time // when the site was well again, which is later: TCP retries after longer and longer pauses
}

// healing returns how long the consequences of a fault may last after it has ended.
func healing() time.Duration {
	if *strict {
		return 10 * time.Second
	}
	return harness.Patience
}

// kind is a kind of fault. begin causes the fault, and returns the function that heals it.
type kind struct {
	name  string
	begin func(s *site, node int) (heal func())
}

// kinds are all kinds, in the order in which a run begins with them. After that it chooses at
// random. Nodes communicate only through NATS, so a partition between nodes is one between a
// node and NATS, or between a node and everything else.
var kinds = []kind{
	{hopping, func(s *site, node int) func() { return s.hop(node) }},
	{storeLost, func(s *site, node int) func() { return s.loseStore(node) }},
	{"node killed", func(s *site, node int) func() {
		s.nodes[node].Kill()
		return s.nodes[node].start
	}},
	{"node cut off NATS", func(s *site, node int) func() { return s.cut(nodeHost(node), back) }},
	{"NATS killed", func(s *site, _ int) func() {
		s.nats.Kill()
		return s.nats.start
	}},
	{"node paused", func(s *site, node int) func() {
		s.signal(s.nodes[node], syscall.SIGSTOP)
		return func() { s.signal(s.nodes[node], syscall.SIGCONT) }
	}},
	{"node cut off nginx, backend", func(s *site, node int) func() { return s.cut(nodeHost(node), front) }},
	{"node's link to NATS slow", func(s *site, node int) func() { return link{nodeHost(node), back}.slow(s.t) }},
	{"node's clock stepped", func(s *site, node int) func() {
		s.signal(s.nodes[node], clockForth)
		return func() { s.signal(s.nodes[node], clockBack) }
	}},
	{"NATS stopped", func(s *site, _ int) func() {
		if _, err := s.nats.Stop(harness.Patience); err != nil {
			s.t.Error(err)
		}
		return s.nats.start
	}},
	{"log lost", func(s *site, _ int) func() {
		s.nats.Kill()
		logs, err := filepath.Glob(filepath.Join(s.store, "jetstream", "*", "streams", "ssegateway*log*"))
		if err != nil || len(logs) != 1 {
			s.t.Fatalf("the log is one of %q: %v", logs, err)
		}
		if err := os.RemoveAll(logs[0]); err != nil {
			s.t.Fatal(err)
		}
		return s.nats.start
	}},
	{"NATS cut off", func(s *site, _ int) func() { return s.cut(natsHost, back) }},
}

// Kinds of fault that have functions of their own.
const (
	hopping   = "node lags, clients hop"
	storeLost = "store lost, a node away"
)

// hop cuts a node off NATS for moments, again and again, so that it lags behind the others.
// Meanwhile clients disconnect and reconnect at once, to any node, with the last id that
// they had from another node.
func (s *site) hop(node int) (heal func()) {
	const (
		hoppers  = 200
		shortest = 1300 * time.Millisecond
	)
	most := min(3500*time.Millisecond, time.Duration(*lease)*time.Second*2/3) // shorter than the lease
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	cut := func() {
		heal := s.cut(nodeHost(node), back)
		<-time.After(shortest + rand.N(most-shortest)) // even if the fault is over, so that a cut is never shorter
		heal()
	}
	group.Go(func() {
		for cut(); ctx.Err() == nil; cut() {
			pause(ctx, 500*time.Millisecond, time.Second)
		}
	})
	all := s.everyone()
	for i := range min(hoppers, len(all)/2) {
		group.Go(func() {
			for ctx.Err() == nil {
				pause(ctx, 200*time.Millisecond, 2*time.Second)
				all[i].hop()
			}
		})
	}
	return func() {
		cancel()
		group.Wait()
	}
}

// pause waits for a random time from least to most, or until ctx ends.
func pause(ctx context.Context, least, most time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(least + rand.N(most-least)):
	}
}

// loseStore deletes the nodes' JetStream stream while one node cannot notice it, because the
// node is paused or cut off. The event streams of that node stay open.
func (s *site) loseStore(node int) (heal func()) {
	if rand.IntN(2) == 0 {
		heal = s.cut(nodeHost(node), back)
	} else {
		s.signal(s.nodes[node], syscall.SIGSTOP)
		heal = func() { s.signal(s.nodes[node], syscall.SIGCONT) }
	}
	server := addresses[natsHost][back] + "/" + natsPort
	p, err := harness.Run(harness.Command{Args: netns.On(s.t, natsHost, "bash", "-c", `exec 3<>/dev/tcp/`+server+`
		printf 'CONNECT {"verbose":false}\r\nSUB deleted 1\r\nPUB $JS.API.STREAM.DELETE.ssegateway_nodes deleted 0\r\n\r\n' >&3
		while read -r line <&3; do case $line in *'"success":true'*) exit 0;; *'"error"'*) echo "$line"; exit 1;; esac; done`)})
	if err != nil {
		s.t.Fatal(err)
	}
	if status, err := p.Exit(harness.Patience); err != nil || status != 0 {
		s.t.Errorf("the nodes' JetStream stream was not deleted: status %d, %v, %s", status, err, p.Log.Text())
	}
	return heal
}

func (s *site) cut(host, network string) (heal func()) {
	l := link{host, network}
	l.cut(s.t)
	return func() { l.mend(s.t) }
}

func (s *site) signal(p *server, signal syscall.Signal) {
	if err := p.Signal(signal); err != nil {
		s.t.Error(err)
	}
}

// Random faults happen while clients come and go, publishers publish and senders send.
// Every client's history must be complete and in order, every answer true, every disconnect
// reported to the backend, and the site well again within a bound after each fault.
func TestChaos(t *testing.T) {
	t.Logf("seed %d, %d faults of 1 s to %v, %d clients, lease %d s", *seed, *faults, *longest, *clients, *lease)
	random := rand.New(rand.NewPCG(*seed, 0))
	s := newSite(t)
	s.open(*clients)
	stop := s.traffic()
	if !s.converge(healing()) {
		t.Fatal("no convergence before the first fault")
	}
	var happened []fault
	table := fmt.Sprintf("%-28s %5s %8s %12s %8s\n", "fault", "node", "lasted", "well after", "told")
	for i := range *faults {
		k := kinds[i%len(kinds)]
		if i >= len(kinds) {
			k = kinds[random.IntN(len(kinds))]
		}
		if *only != "" {
			for _, named := range kinds {
				if named.name == *only {
					k = named
				}
			}
		}
		f := fault{kind: k.name, node: random.IntN(nodeCount), begin: time.Now()}
		held := s.record.untold(func(c *connection) bool { return c.node == f.node })
		heal := k.begin(s, f.node)
		if strings.HasPrefix(k.name, "NATS") || k.name == "log lost" {
			f.node = -1
		}
		<-time.After(time.Second + time.Duration(random.Int64N(int64(*longest-time.Second))))
		heal()
		f.heal = time.Now()
		well := s.converge(healing())
		f.well = time.Now()
		took := f.well.Sub(f.heal)
		happened = append(happened, f)
		told := "-"
		if k.name == "node killed" {
			told = s.awaitTold(held, f.begin)
		}
		row := fmt.Sprintf("%-28s %5d %8v %12v %8s\n", f.kind, f.node+1, f.heal.Sub(f.begin).Round(100*time.Millisecond), took.Round(10*time.Millisecond), told)
		table += row
		t.Logf("fault %d: %s", i+1, row)
		if !well {
			t.Errorf("fault %d, %s: not well within %v: %s", i+1, f.kind, healing(), s.ailing())
			if !s.converge(time.Minute) {
				break // further faults would show nothing
			}
		}
	}
	stop()
	if !s.converge(healing()) {
		t.Errorf("not well at the end: %s", s.ailing())
	}
	t.Logf("\n%s", table)
	s.judge(happened)
}

// ailing describes what keeps the site from being well.
func (s *site) ailing() string {
	var b strings.Builder
	for i := range nodeCount {
		status, answer := s.post(internal(i)+"/internal/publish", map[string]any{"topic": "nobody", "event": map[string]string{"data": ""}})
		fmt.Fprintf(&b, "node %d: ready %v, recorded %v, publish %d %v; ", i+1, s.ready(i), s.recorded(i), status, answer)
	}
	without := map[string]int{}
	for _, c := range s.everyone() {
		if c.stays && !c.connected() {
			c.mu.Lock()
			without[c.doing]++
			c.mu.Unlock()
		}
	}
	fmt.Fprintf(&b, "of %d clients are without a stream: %v", s.staying(), without)
	return b.String()
}

// awaitTold waits until the disconnects of connections of a dead node were reported. It
// returns how long that took.
func (s *site) awaitTold(held []*connection, died time.Time) string {
	limit := time.Duration(*lease)*time.Second + healing()
	told := func() bool {
		for len(held) > 0 {
			c := held[len(held)-1]
			c.mu.Lock()
			known := c.endKnownLocked()
			c.mu.Unlock()
			if !known {
				return false
			}
			held = held[:len(held)-1]
		}
		return true
	}
	if !within(time.Until(died.Add(limit)), told) {
		s.t.Errorf("the disconnects of %d or more connections of a dead node were not reported within %v", len(held), limit)
		return "not"
	}
	return time.Since(died).Round(100 * time.Millisecond).String()
}

// judge disconnects all clients, requires every disconnect to be reported, and checks all
// records.
func (s *site) judge(happened []fault) {
	t, r := s.t, s.record
	t.Helper()
	s.leave()
	s.present.Wait()
	expected := r.expectations()
	var wrong []string
	wrong = append(wrong, r.checkPublishers()...)
	gaps, events, denied := 0, 0, map[string]int{}
	for _, c := range s.everyone() {
		wrong = append(wrong, r.checkHistory(c, expected)...)
		for _, i := range c.history {
			switch i.kind {
			case gap:
				gaps++
			case event:
				events++
			}
		}
		for _, status := range c.denied {
			denied[status]++
		}
	}
	limit := time.Duration(*lease)*time.Second + healing()
	if !within(limit, func() bool { return len(r.untold(func(*connection) bool { return true })) == 0 }) {
		untold := r.untold(func(*connection) bool { return true })
		wrong = append(wrong, fmt.Sprintf("the disconnects of %d accepted connections were not reported", len(untold)))
		for _, c := range untold[:min(len(untold), 5)] {
			wrong = append(wrong, fmt.Sprintf("%s of node %d, accepted at %s, disconnect callbacks %v", c.token, c.node+1, c.asked.Format(time.TimeOnly), c.told))
		}
	}
	lost := func(c *connection, at time.Time) bool {
		for _, f := range happened {
			mayBe := f.kind == "node killed" || f.kind == "node cut off NATS" || f.kind == "node paused" || f.kind == storeLost || f.kind == hopping
			// The last renewal was up to a quarter of the lease before the fault.
			ended := f.begin.Add(time.Duration(*lease) * time.Second * 3 / 4)
			if f.node == c.node && mayBe && (f.kind == "node killed" || ended.Before(f.well)) && at.After(ended) {
				return true
			}
		}
		return false
	}
	until := func(at time.Time) time.Time {
		for _, f := range happened {
			if at.After(f.begin) && at.Before(f.well) {
				return f.well
			}
		}
		return at
	}
	sends, repeated, details := map[outcome]int{}, map[string]int{}, map[string]int{}
	for _, c := range r.all() {
		wrong = append(wrong, checkConnection(c, lost, until)...)
		for _, o := range c.sent {
			sends[o]++
		}
		said := []string{}
		for _, told := range c.told {
			what := strings.TrimSuffix(told.reason+"/"+told.detail, "/")
			details[what]++
			said = append(said, what)
		}
		if len(said) > 1 {
			repeated[strings.Join(said, ", ")]++
		}
	}
	answered := 0
	for _, list := range expected {
		answered += len(list)
	}
	t.Logf("%d publications, %d of them answered 200; %d deliveries, %d gaps; sends: %d answered 200, %d answered 404, %d with an unknown outcome",
		len(r.publications), answered, events, gaps, sends[accepted], sends[refused], sends[unknown])
	t.Logf("%d connections, disconnects by reason %v; reported more than once: %v; clients refused: %v", len(r.connections), details, repeated, denied)
	if len(wrong) == 0 && !t.Failed() {
		harness.Figure(t, "%d faults of 1 s to %v among %d clients: %d publications, %d deliveries, %d gaps, each where the log was lost; every answer and every disconnect true; well again within %v of each fault",
			len(happened), *longest, *clients, len(r.publications), events, gaps, healing())
	}
	for _, what := range wrong[:min(len(wrong), 20)] {
		t.Error(what)
	}
	if len(wrong) > 20 {
		t.Errorf("and %d more", len(wrong)-20)
	}
}
