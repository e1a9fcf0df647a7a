//go:build load

package load

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
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

// After SIGTERM with 10,000 streams, and a backend that takes 50 ms for each callback, all
// streams end cleanly and all disconnects are reported in time.
func TestDrain(t *testing.T) {
	const streams = 10_000
	s := start(t)
	clients := s.open(streams, 0)
	var clean atomic.Int64
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() {
			var tail []byte
			buf := make([]byte, 512)
			for {
				n, err := c.rest.Read(buf)
				tail = append(tail, buf[:n]...)
				if err != nil {
					break
				}
			}
			if strings.HasSuffix(string(tail), "\r\n0\r\n\r\n") {
				clean.Add(1)
			}
		})
	}
	s.backend.delay.Store(int64(50 * time.Millisecond))
	begin := time.Now()
	if err := s.gateway.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	code, err := s.gateway.Exit(20 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	took := s.gateway.ExitedAt().Sub(begin)
	wg.Wait()
	told, reasons := s.backend.told()
	t.Logf("exit %d after %v, %d disconnects reported %v, %d clean ends", code, took, told, reasons, clean.Load())
	if code != 0 || told != streams || reasons["server_closed/draining"] != streams || clean.Load() != streams {
		t.Errorf("want exit 0, all disconnects reported as server_closed/draining, all streams ended cleanly\n%s", s.gateway.Log.Text())
	}
	if took > 4500*time.Millisecond {
		t.Errorf("took %v, want at most 4.5 s", took)
	}
}

// The backend is unreachable for 60 s while 10,000 streams end and one callback hangs. All
// disconnects are reported afterwards, and the number of goroutines stays bounded.
func TestOutage(t *testing.T) {
	const streams = 10_000
	s := start(t)
	clients := s.open(streams, 0)
	hang := make(chan struct{})
	defer close(hang)
	s.backend.hang.Store(&hang)
	clients[0].conn.Close()
	await(t, 5*time.Second, "one callback hangs", func() bool { return s.backend.hang.Load() == nil })
	s.backend.leave()
	left := time.Now()
	for _, c := range clients[1:] {
		c.conn.Close()
	}
	var goroutines []float64
	for time.Since(left) < 60*time.Second {
		goroutines = append(goroutines, s.metric("go_goroutines"))
		<-time.After(500 * time.Millisecond)
	}
	s.backend.comeBack(t)
	took := await(t, 60*time.Second, "all disconnects reported", func() bool { n, _ := s.backend.told(); return n == streams })
	_, reasons := s.backend.told()
	sort.Float64s(goroutines)
	t.Logf("all %d disconnects reported %v after the backend came back: %v; at most %.0f goroutines", streams, took, reasons, goroutines[len(goroutines)-1])
	if most := goroutines[len(goroutines)-1]; most > 1000 {
		t.Errorf("up to %.0f goroutines, want at most 1000", most)
	}
	for token, n := range s.backend.disconnects {
		if n != 1 {
			t.Fatal(fmt.Errorf("the disconnect of token %s was reported %d times", token, n))
		}
	}
}
