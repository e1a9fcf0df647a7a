//go:build load

package load

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The default cap admits 19,000 streams at a limit of 20,000 descriptors. Five seconds after
// the last one was opened, each costs at most 1,300 bytes of resident memory.
func TestIdleMemory(t *testing.T) {
	const streams = 19_000
	s := start(t)
	s.open(100, 0) // warm up, so that memory that does not depend on the number of streams is not counted
	before, goroutines := s.residentBytes(), s.metric("go_goroutines")
	s.open(streams-100, 0)
	<-time.After(5 * time.Second)
	after := s.residentBytes()
	perStream := (after - before) / (streams - 100)
	more := s.metric("go_goroutines") - goroutines
	t.Logf("resident before %d, after %d: %d bytes per stream; %+.0f goroutines", before, after, perStream, more)
	if perStream > 1300 {
		t.Errorf("%d bytes per idle stream, want at most 1300", perStream)
	}
	if more > 100 {
		t.Errorf("%.0f goroutines more for %d streams", more, streams)
	}
	if open := s.metric(`ssegateway_connections{state="open"}`); open != streams {
		t.Errorf("%.0f open streams, want %d", open, streams)
	}
}

// percentile returns a percentile of durations; p is from 0 to 1.
func percentile(d []time.Duration, p float64) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[min(int(float64(len(sorted))*p), len(sorted)-1)]
}

// Clients that stop reading are disconnected, and the backend is notified. They cost bounded
// memory, and do not slow down sends to clients that read.
func TestSlowClients(t *testing.T) {
	const healthy, slow = 1_000, 1_000
	s := start(t)
	readers := s.open(healthy, 0)
	for _, c := range readers {
		go func() {
			buf := make([]byte, 4096)
			for {
				if _, err := c.rest.Read(buf); err != nil {
					return
				}
			}
		}()
	}
	// Sends are paced, from a few senders, to all healthy clients.
	data := strings.Repeat("h", 256)
	measure := func(d time.Duration) []time.Duration {
		var mu sync.Mutex
		var all []time.Duration
		var wg sync.WaitGroup
		end := time.Now().Add(d)
		for sender := range 8 {
			wg.Go(func() {
				ticker := time.NewTicker(8 * time.Millisecond)
				defer ticker.Stop()
				for i := sender; time.Now().Before(end); i += 8 {
					<-ticker.C
					begin := time.Now()
					status, err := s.send(readers[i%healthy].token, data)
					took := time.Since(begin)
					if err != nil || status != 200 {
						t.Errorf("send to a healthy client: %d %v", status, err)
					}
					mu.Lock()
					all = append(all, took)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		return all
	}
	// Before: the same load, but to clients that read.
	fast := s.open(slow, 0)
	for _, c := range fast {
		go func() {
			buf := make([]byte, 4096)
			for {
				if _, err := c.rest.Read(buf); err != nil {
					return
				}
			}
		}()
	}
	const round = 15 * time.Second
	flood := func(targets []*client) (stop func()) {
		var done atomic.Bool
		var wg sync.WaitGroup
		big := strings.Repeat("s", 4096)
		for sender := range 4 {
			wg.Go(func() {
				ticker := time.NewTicker(4 * time.Millisecond)
				defer ticker.Stop()
				for i := sender; !done.Load(); i += 4 {
					<-ticker.C
					_, _ = s.send(targets[i%len(targets)].token, big)
				}
			})
		}
		return func() { done.Store(true); wg.Wait() }
	}
	stop := flood(fast)
	before := measure(round)
	stop()
	for _, c := range fast {
		c.conn.Close()
	}
	await(t, 10*time.Second, "fast clients gone", func() bool { n, _ := s.backend.told(); return n == slow })

	stalled := s.open(slow, 4096)
	resident, kernel := s.residentBytes(), kernelTCPBytes(t)
	// Fill them at once beyond the kernel's buffers, then go on sending.
	var peak, peakResident, peakKernel atomic.Int64 // growth
	watching := make(chan struct{})
	go func() {
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-watching:
				return
			case <-ticker.C:
				r, k := s.residentBytes()-resident, kernelTCPBytes(t)-kernel
				peak.Store(max(peak.Load(), r+k))
				peakResident.Store(max(peakResident.Load(), r))
				peakKernel.Store(max(peakKernel.Load(), k))
			}
		}
	}()
	begin := time.Now()
	large := strings.Repeat("x", 100_000)
	var wg sync.WaitGroup
	for sender := range 4 {
		wg.Go(func() {
			for i := sender; i < slow; i += 4 {
				for range 2 {
					_, _ = s.send(stalled[i].token, large)
				}
			}
		})
	}
	wg.Wait()
	stop = flood(stalled)
	during := measure(round)
	stop()
	close(watching)
	await(t, 15*time.Second, "every stalled client disconnected", func() bool { n, _ := s.backend.told(); return n == 2*slow })
	_, reasons := s.backend.told()
	t.Logf("the disconnects of all %d stalled clients were reported after at most %v: %v", slow, time.Since(begin).Round(time.Second), reasons)
	t.Logf("sends to healthy clients, p50 and p99: before %v %v, during %v %v (%d and %d sends)",
		percentile(before, .5), percentile(before, .99), percentile(during, .5), percentile(during, .99), len(before), len(during))
	growth := peak.Load()
	t.Logf("growth of memory: %d MiB (resident at most %d, kernel at most %d)", growth>>20, peakResident.Load()>>20, peakKernel.Load()>>20)
	if growth > 256<<20 {
		t.Errorf("memory grew by %d MiB, want at most 256", growth>>20)
	}
	if percentile(during, .99) > percentile(before, .99)*3/2 {
		t.Errorf("p99 of sends to healthy clients is more than 1.5 times that of before")
	}
	if n := reasons["error/stalled"] + reasons["error/slow_consumer"]; n != slow {
		t.Errorf("%d clients disconnected as stalled or slow, want %d", n, slow)
	}
}
