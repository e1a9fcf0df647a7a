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

	"golang.org/x/net/http2"

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
	leave func(*peer) error
	// Sent behind the request before.
	extra     func(k kind) []byte // nil: nothing
	malformed bool                // it is no HTTP/2
}

var ways = []way{
	{name: "FIN", leave: closeAll},
	{name: "FIN-alone", leave: func(p *peer) error { return p.tcp.Close() }}, // over TLS: without a close_notify
	{name: "RST", leave: func(p *peer) error { return errors.Join(p.tcp.SetLinger(0), p.tcp.Close()) }},
	{name: "half-close", leave: func(p *peer) error { return p.conn.(interface{ CloseWrite() error }).CloseWrite() }},
	{name: "extra", leave: closeAll, extra: func(kind) []byte { return []byte("x") }},
	{name: "much-extra", leave: closeAll, extra: func(k kind) []byte {
		if !k.isHTTP2() {
			return much
		}
		var frame bytes.Buffer
		_ = http2.NewFramer(&frame, nil).WriteRawFrame(0xfa, 0, 0, much) // of no known type, which RFC 9113 section 5.5 has ignored
		return frame.Bytes()
	}},
	{name: "malformed", leave: closeAll, malformed: true, extra: func(kind) []byte { return much }},
}

var much = bytes.Repeat([]byte("x"), 3000)

func closeAll(p *peer) error { return p.conn.Close() }

// goAway is how long net/http leaves a peer that made an error of HTTP/2 to read why, before it ends
// the connection.
const goAway = time.Second

// can reports whether clients of a kind can leave that way.
func (w way) can(k kind) bool {
	if w.malformed {
		return k.isHTTP2()
	}
	return w.extra == nil || k.proxy == nil // nginx passes on nothing of it
}

// wants returns the reason and the detail with which an end is told.
func (w way) wants(k kind) (reason, detail string) {
	if w.extra != nil && !k.isHTTP2() {
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
			if !w.can(k) {
				continue
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
		if l.way.extra != nil {
			_, _ = l.peer.conn.Write(l.way.extra(l.kind)) // fails where the gateway has closed the connection behind its beginning
		}
		if err := l.way.leave(l.peer); err != nil && l.way.extra == nil {
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
		if l.way.malformed {
			after -= min(after, goAway)
		}
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
	harness.Figure(t, "%d peers left in %d ways over %s: told of with p99 %.1f ms, p99 of the worst kind and way %.1f ms (bound %v; after an error of HTTP/2 %v more)",
		len(all), len(ways), names(), milliseconds(everyone.Quantile(0.99)), milliseconds(worst), *limit, goAway)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
