package vanish

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

const (
	// deadline is how soon the backend must be notified of a peer that vanished. The 10 s of
	// section 9 of the contract begin with the next heartbeat at the latest.
	deadline = heartbeat + 12*time.Second
	// settling is how long clients are served before they vanish.
	settling = 2 * time.Second
)

// traffic is what is sent to streams while their clients vanish.
type traffic struct {
	name  string // in URLs
	share int    // hundredths of the peers, but at least 3 peers; 0: those that are left
	bytes int    // of an event
	every time.Duration
	slow  bool // much is sent at once, and read slowly
}

var traffics = []traffic{
	{name: "each-second", share: 20, bytes: 100, every: time.Second},
	{name: "each-100-ms", share: 2, bytes: 100, every: 100 * time.Millisecond},
	{name: "large", share: 1, bytes: 20000, every: 100 * time.Millisecond},
	{name: "slow", share: 1, bytes: 20000, slow: true},
	{name: "heartbeats"},
}

// TestVanish makes clients of each kind and traffic vanish at once. The disconnects of all
// are reported in time, as errors with a detail.
func TestVanish(t *testing.T) {
	s := newSite(t)
	total := 0
	for _, k := range kinds {
		left := *peers
		for _, f := range traffics {
			n := left
			if f.share > 0 {
				n = max(3, *peers*f.share/100)
			}
			s.populate(k, f, n)
			left -= n
			total += n
		}
	}
	connects := s.await(harness.Patience, total, "connect")
	ctx, stop := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	defer sending.Wait()
	defer stop()
	for _, c := range connects {
		sending.Go(func() { s.feed(ctx, c) })
	}
	<-time.After(settling)
	cut(t)
	gone := time.Now()
	ends := s.await(deadline, total, "disconnect")
	late := map[string]harness.Latencies{}
	for url := range connects {
		c := ends[url]
		if c == nil {
			t.Errorf("%s: disconnect not reported within %v", url, deadline)
			continue
		}
		k := kindOf(url)
		after := c.At.Sub(gone)
		late[k.name] = append(late[k.name], after)
		if after < 0 || after > deadline {
			t.Errorf("%s: disconnect reported %v after it vanished: %s, %q", url, after, c.Reason, c.Detail)
		}
		if c.Reason != "error" || c.Detail != "stalled" && c.Detail != "connection_lost" {
			t.Errorf("%s: disconnect reported as %s, %q", url, c.Reason, c.Detail)
		}
	}
	var worst time.Duration
	for _, name := range slices.Sorted(maps.Keys(late)) {
		t.Logf("%-10s %v", name, late[name])
		worst = max(worst, late[name].Quantile(1))
	}
	harness.Figure(t, "%d of %d peers that vanished are told of as errors, the last after %.1f s (bound: heartbeat + 12 s = %v), %d of each kind: %s",
		len(ends), total, worst.Seconds(), deadline, *peers, names())
}

// names returns the names of all kinds.
func names() string {
	var all []string
	for _, k := range kinds {
		all = append(all, k.name)
	}
	return strings.Join(all, ", ")
}

// populate opens n streams of a kind for a traffic. Over HTTP/2 three of them share a connection,
// except where much is sent.
func (s *site) populate(k kind, f traffic, n int) {
	s.t.Helper()
	var p *peer
	for i := range n {
		if p == nil || p.http == nil || f.slow || f.bytes > 1000 || i%3 == 0 {
			p = s.dial(k, f.slow)
		}
		s.open(k, p, fmt.Sprintf("/%s/%s/%d", k.name, f.name, i))
	}
}

// feed sends a stream its traffic until ctx or the stream ends.
func (s *site) feed(ctx context.Context, c *harness.Callback) {
	f := traffics[slices.IndexFunc(traffics, func(f traffic) bool { return strings.Contains(c.URL, "/"+f.name+"/") })]
	data := strings.Repeat("x", f.bytes)
	if f.slow {
		for range 20 {
			s.send(ctx, c, data)
		}
		return
	}
	if f.every == 0 {
		return
	}
	ticker := time.NewTicker(f.every)
	defer ticker.Stop()
	for s.send(ctx, c, data) {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
