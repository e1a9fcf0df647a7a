package storm

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// After SIGTERM, with a backend that takes 50 ms for each callback, all streams end as they should and all disconnects
// are acknowledged within the 4.5 s that a drain without a window has.
func TestDrain(t *testing.T) {
	s := start(t)
	all := open(t, s.Endpoint, *streams)
	s.backend.turn(mood{delay: 50 * time.Millisecond})
	begun := time.Now()
	if err := s.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	code, err := s.Exit(harness.Patience)
	if err != nil {
		t.Fatal(err)
	}
	took := s.ExitedAt().Sub(begun)
	for _, x := range all {
		<-x.ended
		if clean, retry := x.over(); !clean || retry < time.Second || retry > 5*time.Second {
			t.Errorf("token %s: its stream ended clean=%t, retry %v", x.token, clean, retry)
		}
	}
	if owed := len(s.backend.ledger.Owed()); code != 0 || owed > 0 {
		t.Errorf("exit code %d, %d ends not acknowledged", code, owed)
	}
	if took > 4500*time.Millisecond { // of which a build with the race detector waits 1 s at its exit
		t.Errorf("took %v, want at most 4.5 s", took)
	}
	if n := s.backend.ledger.Ends()["server_closed draining"]; n != *streams {
		t.Errorf("%d ends are told as server_closed draining, of %d", n, *streams)
	}
	s.check()
	if !t.Failed() {
		harness.Figure(t, "exit 0 after %v (bound 4.5 s) with %d streams, all ends acknowledged", took.Round(time.Millisecond), *streams)
	}
}

// A drain with a window spreads the clients that come back: a second gateway, which takes them, never has more than
// twice the mean of them in a second.
func TestDrainWindow(t *testing.T) {
	first := start(t, "DRAIN_SECONDS="+strconv.Itoa(*drain))
	second := harness.StartGateway(t, program, nil, "LOG_LEVEL=warn", "CALLBACK_URL="+first.Backend.URL("/callback"))
	all := open(t, first.Endpoint, *streams)
	begun := time.Now()
	if err := first.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	// Each comes back as an EventSource does: when the time is over that its stream told it.
	back := make([]*stream, len(all))
	ended, came := make([]time.Duration, len(all)), make([]time.Duration, len(all))
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(*drain)*time.Second+harness.Patience)
	defer cancel()
	var coming sync.WaitGroup
	for i, x := range all {
		coming.Go(func() {
			<-x.ended
			ended[i] = time.Since(begun)
			clean, retry := x.over()
			if !clean || retry < time.Second || retry > 5*time.Second {
				t.Errorf("token %s: its stream ended clean=%t, retry %v", x.token, clean, retry)
			}
			<-time.After(retry)
			came[i] = time.Since(begun)
			y, err := ask(ctx, second.Endpoint, "/")
			if err != nil || y.status != http.StatusOK {
				t.Errorf("client %d does not come back: %v", i, err)
				return
			}
			back[i] = y
		})
	}
	coming.Wait()
	if t.Failed() {
		return
	}
	defer func() {
		for _, x := range back {
			x.leave(byFIN)
			<-x.ended
		}
	}()
	code, err := first.Exit(time.Duration(*drain)*time.Second + harness.Patience)
	if err != nil || code != 0 {
		t.Fatalf("exit code %d, %v", code, err)
	}
	took := first.ExitedAt().Sub(begun)
	if most := time.Duration(*drain)*time.Second + time.Second; *strict && took > most {
		t.Errorf("took %v, want at most %v", took, most)
	}
	site := &site{second, t, first.backend, first.http}
	site.settles(harness.Patience, back)
	site.check()

	// The last is closed 5 s before the end of the window, or at half of it if that is later.
	window := time.Duration(*drain) * time.Second
	if last, due := slices.Max(ended), max(window-5*time.Second, window/2); last < due*9/10 {
		t.Errorf("the last stream ended after %v, want %v", last, due)
	}
	slices.Sort(came)
	mean := float64(len(came)) / window.Seconds()
	peak := float64(most(came, time.Second))
	// Each comes back within 5 s of its end, so a short window cannot spread them further.
	if *strict && peak > 2*mean {
		t.Errorf("%.0f clients came back in one second, %.0f in the mean", peak, mean)
	}
	if !t.Failed() {
		harness.Figure(t, "with a window of %v at most %.0f clients come back in a second, %.2f times the mean (bound 2)", window, peak, peak/mean)
	}
}

// most returns how many of the times, which are sorted, lie at most within one span.
func most(sorted []time.Duration, span time.Duration) (n int) {
	first := 0
	for i, at := range sorted {
		for at-sorted[first] >= span {
			first++
		}
		n = max(n, i-first+1)
	}
	return n
}
