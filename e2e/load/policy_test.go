//go:build load

package load

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// For each overflow policy, 100 clients are far behind, with queues full of small events, and
// read a little now and then. Events reach 1,000 other clients hardly later than before.
func TestSlowClientsOfEachPolicy(t *testing.T) {
	const healthy, slow = 1_000, 100
	const rate, round = 25, 10 * time.Second
	s := start(t, "QUEUE_BUDGET_BYTES=1073741824")
	s.backend.topic = "everybody"

	var mu sync.Mutex
	var delays []time.Duration
	take := func() []time.Duration {
		mu.Lock()
		defer mu.Unlock()
		taken := delays
		delays = nil
		return taken
	}
	for _, c := range s.open(healthy, 0) {
		go times(c.rest, func(delay time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			delays = append(delays, delay)
		})
	}
	publish := func(d time.Duration) {
		ticker := time.NewTicker(time.Second / rate)
		defer ticker.Stop()
		for end := time.Now().Add(d); time.Now().Before(end); {
			<-ticker.C
			s.publish(fmt.Sprint(time.Now().UnixNano()))
		}
	}
	publish(round)
	before := take()

	for _, policy := range []string{"disconnect", "drop_oldest", "latest"} {
		s.backend.topic, s.backend.overflow = "slow", policy
		for _, c := range s.open(slow, 4096) {
			go func() {
				buf := make([]byte, 1024)
				ticker := time.NewTicker(250 * time.Millisecond)
				defer ticker.Stop()
				for range ticker.C {
					if _, err := c.conn.Read(buf); err != nil {
						return
					}
				}
			}()
		}
	}
	// 20,000 events of 10 bytes, of which each takes about 100 bytes in a queue, fill the queues
	// and the kernel's buffers.
	filling := time.Now()
	const batch = 1000
	operations := strings.Repeat(`{"topic":"slow","event":{"data":"0123456789"},"store":false},`, batch)
	body := `{"operations":[` + strings.TrimSuffix(operations, ",") + "]}"
	fill := func(times int) {
		for range times {
			resp, err := s.http.Post("http://"+s.addr+"/internal/batch", "application/json", strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			if resp.Body.Close(); resp.StatusCode != http.StatusOK {
				t.Error(resp.Status)
				return
			}
		}
	}
	fill(40)
	filled := time.Since(filling)
	take()
	var filler sync.WaitGroup
	over := make(chan struct{})
	filler.Go(func() { // keeps the queues full
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		one := `{"topic":"slow","event":{"data":"0123456789"},"store":false}`
		for {
			select {
			case <-over:
				return
			case <-ticker.C:
			}
			for range 10 {
				resp, err := s.http.Post("http://"+s.addr+"/internal/publish", "application/json", strings.NewReader(one))
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
			}
		}
	})
	publish(round)
	close(over)
	filler.Wait()
	during := take()
	t.Logf("40,000 events to the slow took %v; an event to all the healthy, p50 and p99: before %v %v, during %v %v; %v dropped events counted, %v bytes queued",
		filled.Round(time.Millisecond), percentile(before, .5), percentile(before, .99), percentile(during, .5), percentile(during, .99),
		s.metric("ssegateway_events_dropped_total"), s.metric("ssegateway_queued_bytes"))
	if percentile(during, .99) > 2*percentile(before, .99)+10*time.Millisecond {
		t.Error("the p99 of healthy clients more than doubled")
	}
}

// times reads events whose data is the time at which they were published, and reports their delays to seen.
func times(r *bufio.Reader, seen func(delay time.Duration)) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		var nanos int64
		if _, err := fmt.Sscanf(line, "data: %d", &nanos); err == nil {
			seen(time.Since(time.Unix(0, nanos)))
		}
	}
}
