package vanish

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

var (
	limit = flag.Duration("limit", 5*time.Second, "the maximum for the 99th percentile of the times until an end is told")
	seed  = flag.Uint64("seed", uint64(time.Now().UnixNano()), "decides the order in which peers leave; printed")
)

// pace is the time between two peers that leave.
const pace = 4 * time.Millisecond

// way is a way to leave.
type way struct {
	name  string // in URLs
	extra int    // bytes that are sent behind the request before
	leave func(*peer) error
}

var ways = []way{
	{name: "FIN", leave: func(p *peer) error { return p.conn.Close() }},
	{name: "FIN-alone", leave: func(p *peer) error { return p.tcp.Close() }}, // over TLS: without a close_notify
	{name: "RST", leave: func(p *peer) error { return errors.Join(p.tcp.SetLinger(0), p.tcp.Close()) }},
	{name: "half-close", leave: func(p *peer) error { return p.conn.(interface{ CloseWrite() error }).CloseWrite() }},
	{name: "extra", extra: 1, leave: func(p *peer) error { return p.conn.Close() }},
	{name: "much-extra", extra: 3000, leave: func(p *peer) error { return p.conn.Close() }},
}

// wants returns the reason and the detail with which an end is told.
func (w way) wants(k kind) (reason, detail string) {
	if w.extra > 0 && !k.isHTTP2() {
		return "error", "unexpected_data"
	}
	return "client_closed", ""
}

// Peers of each kind leave in each way, in a random order. The backend is told of each once, soon,
// and with the reason that the contract names.
func TestLeave(t *testing.T) {
	t.Logf("seed %d", *seed)
	s := newSite(t)
	type leaver struct {
		peer *peer
		kind kind
		way  way
		url  string
		at   time.Time
	}
	var all []*leaver
	for _, k := range kinds {
		for _, w := range ways {
			if k.proxy != nil && w.extra > 0 {
				continue // what nginx has not read it does not pass on
			}
			for i := range max(1, *peers/len(ways)) {
				l := &leaver{peer: s.dial(k, false), kind: k, way: w, url: fmt.Sprintf("/%s/%s/%d", k.name, w.name, i)}
				s.open(k, l.peer, l.url)
				all = append(all, l)
			}
		}
	}
	s.await(harness.Patience, len(all), "connect")
	<-time.After(heartbeat) // each stream has begun
	random := rand.New(rand.NewPCG(*seed, 0))
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for _, l := range all {
		<-ticker.C
		l.at = time.Now()
		if l.way.extra > 0 {
			if _, err := l.peer.conn.Write(bytes.Repeat([]byte("x"), l.way.extra)); err != nil {
				t.Error(err)
			}
		}
		if err := l.way.leave(l.peer); err != nil {
			t.Errorf("%s: %v", l.url, err)
		}
	}
	ends := s.await(harness.Patience, len(all), "disconnect")
	told := map[string]harness.Latencies{}
	var everyone harness.Latencies
	for _, l := range all {
		c := ends[l.url]
		if c == nil {
			t.Errorf("%s: disconnect not reported", l.url)
			continue
		}
		after := c.At.Sub(l.at)
		everyone = append(everyone, after)
		name := l.kind.name + " " + l.way.name
		told[name] = append(told[name], after)
		if reason, detail := l.way.wants(l.kind); after < 0 || c.Reason != reason || c.Detail != detail {
			t.Errorf("%s: disconnect reported as %s, %q after %v, want %s, %q", l.url, c.Reason, c.Detail, after, reason, detail)
		}
	}
	var worst time.Duration
	for _, name := range slices.Sorted(maps.Keys(told)) {
		t.Logf("%-22s %v", name, told[name])
		if p99 := told[name].Quantile(0.99); p99 > *limit {
			t.Errorf("%s: told of after %v", name, told[name])
		} else {
			worst = max(worst, p99)
		}
	}
	harness.Figure(t, "%d peers left in %d ways over %s: told of with p99 %.1f ms, p99 of the worst kind and way %.1f ms (bound %v)",
		len(all), len(ways), names(), milliseconds(everyone.Quantile(0.99)), milliseconds(worst), *limit)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
