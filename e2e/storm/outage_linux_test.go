package storm

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// beat is HEARTBEAT_INTERVAL_SECONDS of TestOutage.
const beat = 2 * time.Second

// TestOutage has a backend that is down: for a third of the time it answers 503, then nothing, then it is not there. Half
// of the open streams end meanwhile, and others are asked for. Streams that stay miss no heartbeat. The backend gets
// one callback a second. When it is back all is well soon: clients get streams, and every end is told, once.
func TestOutage(t *testing.T) {
	s := start(t, "HEARTBEAT_INTERVAL_SECONDS=2")
	b := s.backend
	all := open(t, s.Endpoint, *streams)
	stay, leave := all[:*streams/2], all[*streams/2:]
	stop := s.watch()
	before := s.callbacks()

	// Clients that come, and come back when they are refused.
	ctx, cancel := context.WithCancel(t.Context())
	var coming sync.WaitGroup
	var connects atomic.Int64
	came := make([]*stream, *streams/4)
	comeFrom := func() {
		for i := range came {
			random := rand.New(rand.NewPCG(*seed, uint64(2+i)))
			coming.Go(func() {
				for came[i] == nil && ctx.Err() == nil {
					connects.Add(1)
					x, err := ask(ctx, s.Endpoint, "/")
					switch {
					case err != nil && ctx.Err() == nil:
						t.Errorf("a client gets no answer: %v", err)
						return
					case err == nil && x.status == http.StatusOK:
						came[i] = x
						return
					}
					select {
					case <-time.After(500*time.Millisecond + time.Duration(random.Int64N(int64(time.Second)))):
					case <-ctx.Done():
					}
				}
			})
		}
	}
	defer func() {
		cancel()
		coming.Wait()
		for _, x := range came {
			if x != nil {
				x.leave(byFIN)
				<-x.ended
			}
		}
	}()
	b.turn(mood{status: http.StatusServiceUnavailable})
	comeFrom()
	noticed := becomes(t, harness.Patience, "the gateway takes the backend for down", s.isDown)

	// One a second from now on, whatever happens.
	down := s.sample()
	for i, x := range leave {
		x.leave(i % leavings)
	}
	goroutines := s.during(*away / 3)
	b.turn(mood{silent: true})
	goroutines = max(goroutines, s.during(*away/3))
	b.leave()
	goroutines = max(goroutines, s.during(*away/3))
	still := s.sample()
	probes, lasted := still.callbacks-down.callbacks, time.Since(down.at)
	if !still.down || probes > lasted.Seconds()+1 {
		t.Errorf("%.0f callbacks in %v while the backend is down (%t)", probes, lasted, still.down)
	}

	b.turn(mood{})
	b.comeBack(t)
	back := time.Now()
	patience := harness.Patience
	if *strict {
		patience = 5 * time.Second
	}
	opens := becomes(t, patience, "clients get streams", func() bool { return !s.isDown() })
	coming.Wait()
	open := append(append([]*stream(nil), stay...), came...)
	if !t.Failed() {
		s.settles(harness.Patience, open)
	}
	recovered := time.Since(back)
	if recovered > patience {
		t.Errorf("recovered after %v", recovered)
	}
	stop()
	s.check()
	made := s.callbacks() - before
	if most := 1.1 * float64(connects.Load()+int64(len(leave))); made > most {
		t.Errorf("%.0f callbacks for %d connects and %d ends", made, connects.Load(), len(leave))
	}
	slack := 4 * time.Second
	if *strict {
		slack = time.Second
		if goroutines > 1000 {
			t.Errorf("up to %.0f goroutines", goroutines)
		}
	}
	var silence time.Duration
	for _, x := range stay {
		silence = max(silence, x.silence())
	}
	if silence > beat+slack {
		t.Errorf("a stream had no heartbeat for %v", silence)
	}
	t.Logf("taken for down after %v; clients get streams %v after its return; at most %.0f goroutines", noticed.Round(time.Millisecond), opens.Round(time.Millisecond), goroutines)
	if !t.Failed() {
		harness.Figure(t, "down for %v: %.0f callbacks meanwhile, %d streams without a byte for %v at most (heartbeat %v); %d ends told and %d clients back %v after its return (bound 5 s); %.0f callbacks for %d connects and %d ends in all",
			lasted.Round(time.Second), probes, len(stay), silence.Round(time.Millisecond), beat, len(leave), len(came), recovered.Round(time.Millisecond), made, connects.Load(), len(leave))
	}
}

// sample is how things are at a moment.
type sample struct {
	at         time.Time
	down       bool
	callbacks  float64 // so far, each attempt
	asking     float64
	goroutines float64
}

func (s *site) sample() sample {
	s.t.Helper()
	x := sample{at: time.Now()}
	for name, value := range s.Metrics(s.t, func(string) bool { return true }) {
		switch {
		case name == "ssegateway_backend_down":
			x.down = value == 1
		case name == "go_goroutines":
			x.goroutines = value
		case name == `ssegateway_connect_callbacks{state="asking"}`:
			x.asking = value
		case strings.HasPrefix(name, "ssegateway_callbacks_total{"):
			x.callbacks += value
		}
	}
	return x
}

// isDown reports whether the gateway takes the backend for down, and nothing is under way that began before.
func (s *site) isDown() bool {
	x := s.sample()
	return x.down && x.asking == 0
}

func (s *site) callbacks() float64 { return s.sample().callbacks }

// during returns how many goroutines the gateway has at most within a time.
func (s *site) during(d time.Duration) (goroutines float64) {
	end := time.After(d)
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case <-poll.C:
			goroutines = max(goroutines, s.sample().goroutines)
		case <-end:
			return goroutines
		}
	}
}
