package load

import (
	"bufio"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// For each overflow policy, clients are far behind, with queues full of small events, and
// read a little now and then. Events reach ten times as many others hardly later than before.
func TestSlowClientsOfEachPolicy(t *testing.T) {
	const rate = 25
	healthy, slow, round := *streams, *streams/10, *duration
	fills, queue := 40, 1<<20
	if !*strict {
		fills, queue = 4, 1<<16
	}
	s := start(t, "QUEUE_BUDGET_BYTES=1073741824", "QUEUE_BYTES="+strconv.Itoa(queue))
	s.backend.topic = "everybody"

	var mu sync.Mutex
	var delays harness.Latencies
	take := func() harness.Latencies {
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
	// Events of 10 bytes, of which each takes about 100 bytes in a queue, fill the queues and the
	// kernel's buffers.
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
	fill(fills)
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
	p99before, p99during := before.Quantile(.99), during.Quantile(.99)
	harness.Figure(t, "p99 of an event to %d clients %v, and %v beside %d of each overflow policy whose queues are full (bound: twice and 10 ms); %v dropped events counted",
		healthy, p99before.Round(10*time.Microsecond), p99during.Round(10*time.Microsecond), slow, s.metric("ssegateway_events_dropped_total"))
	if s.metric("ssegateway_events_dropped_total") == 0 {
		t.Error("no event was dropped, so the queues were not full")
	}
	if *strict && p99during > 2*p99before+10*time.Millisecond {
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
