//go:build load

package load

import (
	"fmt"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

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
