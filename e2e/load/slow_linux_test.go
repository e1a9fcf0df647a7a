package load

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// senders post events at a steady pace, each the next one as soon as it is due and the last was
// answered. The function that they call has the number of the event.
func senders(n int, every time.Duration, post func(i int)) (stop func()) {
	over := make(chan struct{})
	var wg sync.WaitGroup
	for sender := range n {
		wg.Go(func() {
			ticker := time.NewTicker(every)
			defer ticker.Stop()
			for i := sender; ; i += n {
				select {
				case <-over:
					return
				case <-ticker.C:
					post(i)
				}
			}
		})
	}
	return func() { close(over); wg.Wait() }
}

// growth is how much more memory there was, at most, while it was watched.
type growth struct{ resident, kernel, both int64 }

// watch watches the memory of the gateway, and that of all TCP sockets of the machine.
func (s *site) watch() (stop func() growth) {
	resident, kernel := s.residentBytes(), kernelTCPBytes(s.t)
	over, most := make(chan struct{}), make(chan growth)
	go func() {
		var g growth
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-over:
				most <- g
				return
			case <-ticker.C:
				r, k := s.residentBytes()-resident, kernelTCPBytes(s.t)-kernel
				g = growth{max(g.resident, r), max(g.kernel, k), max(g.both, r+k)}
			}
		}
	}()
	return func() growth { close(over); return <-most }
}

// A fifth of the clients stop reading. They are disconnected, and the backend is told of each
// once. They cost bounded memory, the kernel's included, and do not slow down events to the
// clients that read.
func TestSlowClients(t *testing.T) {
	const most = 256 << 20
	slow := *streams / 5
	healthy := *streams - slow
	patience := 15 * time.Second
	var env []string
	if !*strict { // a full queue cuts a client at once; one that takes nothing is cut after 10 s
		env = append(env, "QUEUE_BYTES=65536")
	}
	s := start(t, env...)
	var mu sync.Mutex
	var delays harness.Latencies
	readers := s.open(healthy, 0)
	for _, c := range readers {
		go times(c.rest, func(delay time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			delays = append(delays, delay)
		})
	}
	// 1,000 events a second, to one healthy client after the other.
	padding := " " + strings.Repeat("h", 230)
	measure := func() harness.Latencies {
		var sent atomic.Int64
		stop := senders(8, 8*time.Millisecond, func(i int) {
			status, err := s.send(readers[i%healthy].token, strconv.FormatInt(time.Now().UnixNano(), 10)+padding)
			if err != nil || status != 200 {
				t.Errorf("send to a healthy client: %d %v", status, err)
			}
			sent.Add(1)
		})
		<-time.After(*duration)
		stop()
		await(t, harness.Patience, "every event to a healthy client has arrived", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(delays) == int(sent.Load())
		})
		mu.Lock()
		defer mu.Unlock()
		taken := delays
		delays = nil
		return taken
	}
	flood := func(targets []*client) (stop func()) {
		large := strings.Repeat("s", 4096)
		return senders(4, 4*time.Millisecond, func(i int) { _, _ = s.send(targets[i%len(targets)].token, large) })
	}
	// Before: the same load, but to clients that read.
	fast := s.open(slow, 0)
	for _, c := range fast {
		go drain(c)
	}
	stop := flood(fast)
	before := measure()
	stop()
	for _, c := range fast {
		c.conn.Close()
	}
	await(t, harness.Patience, "fast clients gone", func() bool { n, _ := s.backend.told(); return n == slow })

	stalled := s.open(slow, 4096)
	watched := s.watch()
	// Fill them at once beyond the kernel's buffers, then go on sending.
	began := time.Now()
	large := strings.Repeat("x", 100_000)
	var filling sync.WaitGroup
	for sender := range 4 {
		filling.Go(func() {
			for i := sender; i < slow; i += 4 {
				for range 2 {
					_, _ = s.send(stalled[i].token, large)
				}
			}
		})
	}
	filling.Wait()
	stop = flood(stalled)
	during := measure()
	await(t, harness.Patience, "every stalled client disconnected", func() bool { n, _ := s.backend.told(); return n == 2*slow })
	stop()
	grown := watched()
	last := s.backend.lastTold().Sub(began)
	_, reasons := s.backend.told()
	harness.Figure(t, "%d of %d clients stop reading: memory grows by %d MiB (resident at most %d, kernel at most %d; bound %d), all are cut and told within %v (bound %v), "+
		"p99 of an event to the others %v before and %v during (bound 1.5 times)", slow, *streams, grown.both>>20, grown.resident>>20, grown.kernel>>20, most>>20,
		last.Round(100*time.Millisecond), patience, before.Quantile(.99).Round(10*time.Microsecond), during.Quantile(.99).Round(10*time.Microsecond))
	if grown.resident > most {
		t.Errorf("resident memory grew by %d MiB", grown.resident>>20)
	}
	for _, c := range stalled {
		if n := s.backend.timesTold(c.token); n != 1 {
			t.Errorf("the end of %s was told %d times", c.token, n)
		}
	}
	if n := reasons["error/stalled"] + reasons["error/slow_consumer"]; n != slow {
		t.Errorf("%d clients disconnected as stalled or slow, want %d: %v", n, slow, reasons)
	}
	if n, _ := s.backend.told(); n != 2*slow {
		t.Errorf("%d ends were told, want %d", n, 2*slow)
	}
	if !*strict {
		return
	}
	if grown.both > most {
		t.Errorf("memory grew by %d MiB", grown.both>>20)
	}
	if last > patience {
		t.Errorf("the last was told after %v", last)
	}
	if p := during.Quantile(.99); p > before.Quantile(.99)*3/2 {
		t.Errorf("the p99 of healthy clients is %v", p)
	}
}

// drain reads a stream until it ends.
func drain(c *client) {
	buf := make([]byte, 4096)
	for {
		if _, err := c.rest.Read(buf); err != nil {
			return
		}
	}
}
