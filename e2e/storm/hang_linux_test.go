package storm

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// TestHang compares a backend that hangs with one that is well, in turns. Whatever the backend does, closes are
// answered at once, and sends are as fast.
func TestHang(t *testing.T) {
	// So few that those that hang are all that may be made.
	s := start(t, "CALLBACK_CONCURRENCY="+strconv.Itoa(min(concurrency, *streams/40)))
	rounds := 1
	if *strict {
		rounds = 3
	}
	all := open(t, s.Endpoint, *streams)
	addressed, rest := all[:*streams/2], all[*streams/2:]
	each := len(rest) / (2 * rounds)
	var well, hanging []harness.Latencies
	var closes harness.Latencies
	for range rounds {
		part := rest[:each]
		sent, _ := s.load(addressed, part)
		well = append(well, sent)
		rest = rest[each:]

		part = rest[:each]
		s.backend.turn(mood{silent: true})
		sent, closed := s.load(addressed, part)
		hanging = append(hanging, sent)
		closes = append(closes, closed...)
		rest = rest[each:]
		s.backend.turn(mood{})
		s.settles(time.Minute, all)
	}
	s.check()

	// The middle one of the rounds: a pause of the machine in one of them says nothing.
	before, during := middle(well), middle(hanging)
	if *strict {
		if during > before*5/4+500*time.Microsecond {
			t.Errorf("p99 of sends is %v while the backend hangs, and %v before", during, before)
		}
		if p99 := closes.Quantile(0.99); p99 > 20*time.Millisecond {
			t.Errorf("p99 of closes is %v", p99)
		}
	}
	slowest := closes.Quantile(1)
	for _, l := range hanging {
		slowest = max(slowest, l.Quantile(1))
	}
	if slowest > timeout/2 { // as if it waited for the backend
		t.Errorf("a send or a close is answered after %v", slowest)
	}
	t.Logf("closes while the backend hangs: %v", closes)
	if !t.Failed() {
		harness.Figure(t, "while the backend hangs p99 of closes is %v (bound 20 ms), p99 of sends %v, and %v while it is well",
			closes.Quantile(0.99).Round(10*time.Microsecond), during.Round(10*time.Microsecond), before.Round(10*time.Microsecond))
	}
}

func middle(of []harness.Latencies) time.Duration {
	var p99 []time.Duration
	for _, l := range of {
		p99 = append(p99, l.Quantile(0.99))
	}
	slices.Sort(p99)
	return p99[len(p99)/2]
}

// load sends to the addressed streams for a while, at a steady pace. Meanwhile it closes the others, and as many clients come, who
// leave in the end. It returns how long the answers took.
func (s *site) load(addressed, others []*stream) (sends, closes harness.Latencies) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), *span)
	defer cancel()
	var mu sync.Mutex
	var group sync.WaitGroup
	timed := func(into *harness.Latencies, body map[string]any) {
		begun := time.Now()
		status, answer := s.post("/internal/send", body)
		took := time.Since(begun)
		if status != http.StatusOK {
			s.t.Errorf("%v is answered %d %v", body, status, answer)
		}
		mu.Lock()
		defer mu.Unlock()
		*into = append(*into, took)
	}
	const senders = 8
	for first := range senders {
		group.Go(func() {
			i := first
			paced(ctx, senders*time.Second/time.Duration(*rate), func() {
				timed(&sends, map[string]any{"token": addressed[i%len(addressed)].token, "event": map[string]string{"data": "x"}})
				i += senders
			})
		})
	}
	group.Go(func() {
		i := 0
		paced(ctx, *span/time.Duration(len(others)+1), func() {
			if i == len(others) {
				return
			}
			group.Go(func() {
				if x, err := ask(ctx, s.Endpoint, "/"); err == nil && x.status == http.StatusOK {
					<-ctx.Done()
					x.leave(byFIN)
					<-x.ended
				}
			})
			timed(&closes, map[string]any{"token": others[i].token, "close": true})
			i++
		})
	})
	group.Wait()
	return sends, closes
}

// paced calls f at that pace until ctx ends.
func paced(ctx context.Context, every time.Duration, f func()) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f()
		case <-ctx.Done():
			return
		}
	}
}
