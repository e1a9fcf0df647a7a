package cluster

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// All nodes are restarted, one after the other, under load. No client misses an event, and
// the clients of each node reconnect spread over its drain window.
func TestRollingRestart(t *testing.T) {
	s := newSite(t, "DRAIN_SECONDS="+strconv.Itoa(*drain))
	s.open(*clients)
	stop := s.traffic()
	if !s.converge(healing()) {
		t.Fatal("no convergence before the first restart")
	}
	window := time.Duration(*drain) * time.Second
	for i, node := range s.nodes {
		begin := time.Now()
		code, err := node.Stop(window + harness.Patience)
		if err != nil || code != 0 {
			t.Errorf("node %d exited with code %d, %v", i+1, code, err)
		}
		drained := time.Since(begin)
		node.start()
		if !s.converge(healing()) {
			t.Errorf("not well within %v after the restart of node %d: %s", healing(), i+1, s.ailing())
		}
		peak, from, mean := s.reconnects(begin, window)
		t.Logf("node %d drained in %v: at most %d clients reconnected in one second, from %v on, and %.1f a second on average over the window",
			i+1, drained.Round(10*time.Millisecond), peak, from.Round(10*time.Millisecond), mean)
		if float64(peak) > 2*mean {
			t.Errorf("node %d: %d clients reconnected in one second, more than twice the mean of %.1f", i+1, peak, mean)
		}
	}
	stop()
	if !s.converge(healing()) {
		t.Errorf("not well at the end: %s", s.ailing())
	}
	s.judge(nil)
}

// reconnects counts the reconnects since begin of clients that stay. It returns the most in
// any one second, when that second began, and the mean over the drain window.
func (s *site) reconnects(begin time.Time, window time.Duration) (peak int, from time.Duration, mean float64) {
	var at []time.Duration
	for _, c := range s.everyone() {
		if !c.stays {
			continue
		}
		c.mu.Lock()
		for _, opened := range c.opens[1:] {
			if opened.After(begin) {
				at = append(at, opened.Sub(begin))
			}
		}
		c.mu.Unlock()
	}
	slices.Sort(at)
	first := 0
	for last := range at {
		for at[last]-at[first] > time.Second {
			first++
		}
		if n := last - first + 1; n > peak {
			peak, from = n, at[first]
		}
	}
	return peak, from, float64(len(at)) / window.Seconds()
}
