package clients

import (
	"encoding/json"
	"flag"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// Each return takes half a second at least, so that all of them last longer than the 5 s after which a client that
// comes back has done so at the latest.
var returns = flag.Int("returns", 13, "how often another source comes back while those that were refused for good are watched")

// backWithin is how long after an outage the last client may be back: a callback is tried once a second, and a client
// that was refused before that comes back after at most 5 s. The rest is for a busy machine.
const backWithin = 1*time.Second + 5*time.Second + 2*time.Second

// The states of an EventSource.
const (
	connecting = 0
	closed     = 2
)

// watchers watch EventSources, with the errors that they report.
var watchers = []struct {
	name  string
	start func(t *testing.T, urls []string) func() (report, error)
}{
	{"Chromium", func(t *testing.T, urls []string) func() (report, error) { return runPage(t, "watchSources", urls) }},
	{"eventsource", func(t *testing.T, urls []string) func() (report, error) { return runNode(t, "watch.mjs", urls...) }},
}

// An EventSource that was refused for good stays away. One that met an outage of the backend is back soon after it,
// unless EVENTSOURCE_ERRORS is status: then it has given up.
func TestRefusals(t *testing.T) {
	origin := startPages(t)
	startChromium(t)
	var mu sync.Mutex
	var back harness.Latencies
	var all sync.WaitGroup // all at once, whatever -parallel says: they wait more than they work
	for _, mode := range []string{"status", "retry", "event"} {
		for _, w := range watchers {
			all.Go(func() {
				t.Run(mode+"/"+w.name+"/for good", func(t *testing.T) {
					refusedForGood(t, startOutage(t, mode, origin), w.start)
				})
			})
			all.Go(func() {
				t.Run(mode+"/"+w.name+"/outage", func(t *testing.T) {
					waited := afterOutage(t, startOutage(t, mode, origin), w.start)
					mu.Lock()
					defer mu.Unlock()
					back = append(back, waited...)
				})
			})
		}
	}
	all.Wait()
	if !t.Failed() {
		harness.Figure(t, "%d sources in Chromium and Node were back %.1f s (half) and %.1f s (all) after the backend (bound %.0f s); "+
			"18 that were refused for good made no further request while others came back %d times",
			len(back), back.Quantile(0.5).Seconds(), back.Quantile(1).Seconds(), backWithin.Seconds(), *returns)
	}
}

// refusedForGood: an EventSource that got a 401, 403 or 404 makes no further request. How long it is watched
// is measured by the requests of another one, which comes back every half second.
func refusedForGood(t *testing.T, x *outage, start func(*testing.T, []string) func() (report, error)) {
	t.Helper()
	w := x.watch(t, start, "/refused/401", "/refused/403", "/refused/404", "/clock")
	for i, status := range []int{401, 403, 404} {
		target := x.targets[i]
		if x.mode == "event" {
			var said struct{ Status int }
			w.want(t, target, "open")
			r := w.want(t, target, "rejected")
			if err := json.Unmarshal([]byte(r.Data), &said); err != nil || said.Status != status {
				t.Errorf("%s is told %q", target, r.Data)
			}
		}
		r, state := w.want(t, target, "error"), closed
		if x.mode == "event" {
			state = connecting // its page has not closed it, so it would come back after an hour
		}
		if r.State != state {
			t.Errorf("%s is in state %d, want %d", target, r.State, state)
		}
	}
	x.letReturn(t, w, *returns)
	for _, target := range x.targets[:3] {
		if n, asked := x.requests(target), len(x.backend.Calls(connectOf(target))); n != 1 || asked != 1 {
			t.Errorf("%s has made %d requests, and the backend was asked %d times, want once each", target, n, asked)
		}
	}
}

// afterOutage: EventSources that lose their streams while the backend is down are back soon after it, or have
// given up. It returns how long they took.
func afterOutage(t *testing.T, x *outage, start func(*testing.T, []string) func() (report, error)) (back []time.Duration) {
	t.Helper()
	w := x.watch(t, start, "/page/0", "/page/1", "/page/2", "/page/3")
	var tokens []string
	for _, target := range x.targets {
		w.want(t, target, "open")
		tokens = append(tokens, x.connects(t, target, 1)[0].Token)
	}
	x.stopBackend()
	x.untilDown(t)
	for _, token := range tokens {
		x.gw.CloseStream(t, token)
	}
	for _, target := range x.targets {
		if r := w.want(t, target, "error"); r.State != connecting {
			t.Fatalf("%s gave up when its stream ended", target)
		}
		if x.mode == "status" {
			if r := w.want(t, target, "error"); r.State != closed {
				t.Errorf("%s is in state %d after a 503", target, r.State)
			}
			continue
		}
		w.want(t, target, "open") // the refusal, after which it comes back
		if r := w.want(t, target, "error"); r.State != connecting {
			t.Fatalf("%s gave up when it was refused", target)
		}
	}
	requests := map[string]int{}
	for _, target := range x.targets {
		requests[target] = x.requests(target)
	}
	x.startBackend(t)
	began := time.Now()
	if x.mode == "status" {
		if _, ok := x.gw.Log.Find(harness.Patience, isBack); !ok { // by the ends that it is told of
			t.Fatal("the gateway does not notice that the backend is back")
		}
		x.letReturn(t, x.watch(t, start, "/clock"), 3)
		for _, target := range x.targets {
			if n := x.requests(target); target != "/clock" && n != requests[target] {
				t.Errorf("%s has given up, and made %d further requests", target, n-requests[target])
			}
		}
		return nil
	}
	for _, target := range x.targets {
		call := x.connects(t, target, 1)[0] // of the backend that is back
		back = append(back, call.At.Sub(began))
	}
	for i, target := range x.targets {
		if back[i] > backWithin {
			t.Errorf("%s was back after %v, want %v", target, back[i], backWithin)
		}
	}
	return back
}

var (
	isDown = regexp.MustCompile("the backend is down")
	isBack = regexp.MustCompile("the backend is back")
)

// untilDown asks for streams until the gateway takes the backend for down.
func (x *outage) untilDown(t *testing.T) {
	t.Helper()
	found := make(chan bool, 1)
	go func() {
		_, ok := x.gw.Log.Find(harness.Patience, isDown)
		found <- ok
	}()
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for i := 0; ; i++ {
		select {
		case ok := <-found:
			if !ok {
				t.Fatal("the gateway does not notice that the backend is down")
			}
			return
		case <-pace.C:
		}
		if status, text := x.gw.Call(t, http.MethodGet, "/crowd/"+strconv.Itoa(i), ""); status != http.StatusServiceUnavailable {
			t.Fatalf("without a backend: %d %s", status, text)
		}
	}
}
