package pages

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
)

// A page that is loaded again goes on with the state and the position that it kept: nothing is lost, doubled or loaded.
func TestReload(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.change(t, 5)
	p := s.visit(t, object{"keep": "number"})
	p.wantStatus(t, "open")
	s.change(t, 3)
	p.wantState(t, 8)
	p.wantTaken(t, 6, 8, 1)
	p.leave(t)
	s.wantDisconnects(t, 1)
	s.change(t, 4)
	p.load(t)
	p.wantState(t, 12)
	s.change(t, 1)
	p.wantState(t, 13)
	p.wantTaken(t, 9, 13, 0)
}

// An event that the page has not taken to its end when it is loaded again comes again: what is kept is from before.
func TestReloadInTheMiddle(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.visit(t, object{"keep": "number", "blocks": true})
	p.wantStatus(t, "open")
	s.change(t, 1)
	p.wait(t, "!!globalThis.release")
	chromium.Call[chromedp.Void](t, p.Tab, `async () => {
		release();
		while (!sessionStorage.number?.includes('"state":1')) await new Promise((done) => setTimeout(done, 50));
	}`)
	s.change(t, 1)
	p.wait(t, "!!globalThis.release")
	p.leave(t)
	s.wantDisconnects(t, 1)
	p.load(t)
	p.wait(t, "!!globalThis.release")
	chromium.Call[chromedp.Void](t, p.Tab, "() => { release(); }")
	p.wantState(t, 2)
	p.wantTaken(t, 2, 2, 0)
}

// A page whose storage fails works, and loads its state.
func TestNoStorage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.visit(t, object{"keep": "number", "storage": "forbidden"})
	p.wantStatus(t, "open")
	s.change(t, 2)
	p.wantState(t, 2)
	p.leave(t)
	s.wantDisconnects(t, 1)
	s.change(t, 2)
	p.load(t)
	p.wantState(t, 4)
	p.wantStatus(t, "open")
	s.change(t, 1)
	p.wantState(t, 5)
	p.wantTaken(t, 5, 5, 1)
}

// A gateway that is killed and started again: with STATE_DIR the page goes on, without it the page sees a gap.
func TestGatewayKilled(t *testing.T) {
	for _, c := range []struct {
		name     string
		settings []string
		loads    int
	}{{"with STATE_DIR", []string{"STATE_DIR=" + t.TempDir()}, 1}, {"without", nil, 2}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, c.settings...)
			p := s.visit(t, object{})
			p.wantStatus(t, "open")
			s.change(t, 2)
			p.wantState(t, 2)
			s.Kill()
			p.wantStatus(t, "away")
			s.Restart(t)
			p.wantStatus(t, "open")
			s.change(t, 2)
			p.wantState(t, 4)
			p.wantTaken(t, 1, 4, c.loads)
		})
	}
}

// A page that gets its state with each connect begins anew at a gap.
func TestStateInCallback(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Backend.On("", harness.Script{Connect: func(*harness.Callback) harness.Answer {
		return harness.Answer{Body: fmt.Sprintf(`{"topics": ["number"], "retry_ms": 100, "events": [{"data": "%d"}]}`, s.number.Load())}
	}})
	s.number.Store(1)
	p := s.visit(t, object{"withoutLoad": true})
	p.wantState(t, 1)
	s.change(t, 1)
	p.wantState(t, 2)
	s.Kill()
	p.wantStatus(t, "away")
	s.number.Add(1)
	s.Restart(t)
	p.wantState(t, 3)
	p.wantStatus(t, "open")
	s.change(t, 1)
	p.wantState(t, 4)
	s.wantConnects(t, 3)
	s.wantStreams(t, 1)
}

// A backend that is away for a while has the page come back, which knows why; nothing is lost.
func TestBackendAway(t *testing.T) {
	for _, errors := range []string{"status", "retry", "event"} {
		t.Run(errors, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "EVENTSOURCE_ERRORS="+errors)
			p := s.visit(t, object{})
			p.wantStatus(t, "open")
			s.change(t, 1)
			p.wantState(t, 1)
			s.refuses.Store(http.StatusServiceUnavailable)
			s.closeStreams(t)
			p.wait(t, `log.problem.status === 503 && log.problem.code === "BACKEND_ERROR"`)
			s.change(t, 2)
			s.refuses.Store(0)
			p.wantState(t, 3)
			p.wantTaken(t, 1, 3, 1)
		})
	}
}

// closeStreams ends all streams in order.
func (s *site) closeStreams(t *testing.T) {
	t.Helper()
	states, err := s.Connections()
	if err != nil {
		t.Fatal(err)
	}
	for token := range states {
		s.CloseStream(t, token)
	}
}

// A refusal is told as such, and stays one until the page asks again.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		config object
		tabs   int
	}{
		{"a status", object{}, 1},
		{"the event rejected", object{"accept": "text/event-stream"}, 1},
		{"tabs", object{"tabs": "number"}, 2},
		{"tabs and the event rejected", object{"tabs": "number", "accept": "text/event-stream"}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "EVENTSOURCE_ERRORS=event")
			s.refuses.Store(http.StatusForbidden)
			var tabs []*tab
			for range c.tabs {
				tabs = append(tabs, s.visit(t, c.config))
			}
			for _, p := range tabs {
				p.wantStatus(t, "refused")
				if problem := p.log(t).Problem; problem.Status != 403 || problem.Code != "BACKEND_FORBIDDEN" || problem.Message != "Backend returned 403" {
					t.Errorf("the page is told %+v", problem)
				}
				chromium.Call[chromedp.Void](t, p.Tab, `() => { for (const type of ["online", "pageshow"]) dispatchEvent(new Event(type)); document.dispatchEvent(new Event("visibilitychange")); }`)
				p.wantStatus(t, "refused")
			}
			s.wantConnects(t, c.tabs)
			s.refuses.Store(0)
			for _, p := range tabs {
				chromium.Call[chromedp.Void](t, p.Tab, "() => { stream.reconnect(); }")
				p.wantStatus(t, "open")
			}
			s.change(t, 1)
			for _, p := range tabs {
				p.wantState(t, 1)
				p.wantTaken(t, 1, 1, 1)
			}
			if n := len(s.Backend.Calls(func(c *harness.Callback) bool { return c.Action == "connect" })); n != c.tabs+1 {
				t.Errorf("the backend was asked %d times, want %d", n, c.tabs+1)
			}
		})
	}
}

// What others answer than the gateway: a final status is a refusal whatever its body is, and a page in place of a stream,
// as of a network with a login, is none.
func TestOthersAnswers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.visit(t, object{"url": s.app.URL + "/null"})
	p.wantStatus(t, "refused")
	p = s.visit(t, object{"url": s.app.URL + "/"})
	p.wait(t, `log.status === "away" && log.problem.status === 200 && log.statuses.length > 1`)
	chromium.Call[chromedp.Void](t, p.Tab, `() => { stream.close(); stream.reconnect(); }`)
	p.wantStatus(t, "closed")
}

// Failures in a row have the page come back later and later, up to 15 s, times 1 to 2. A Retry-After counts, whoever looks
// at the page meanwhile, up to an hour.
func TestWaits(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	others := s.app.Config.Handler
	retryAfter := make(chan string, 10)
	s.app.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/waits" {
			others.ServeHTTP(w, r)
			return
		}
		select {
		case field := <-retryAfter:
			if field != "" {
				w.Header().Set("Retry-After", field)
			}
			w.WriteHeader(http.StatusTooManyRequests)
		case <-r.Context().Done():
		}
	})
	const faster = 100
	for _, field := range []string{"", "", "", "", "", "", "", "30", time.Now().Add(26 * time.Hour).UTC().Format(http.TimeFormat)} {
		retryAfter <- field
	}
	p := s.visit(t, object{"url": s.app.URL + "/waits", "faster": faster})
	p.wait(t, "log.statuses.length === 9 && log.delays.includes(3600000)")
	least := []float64{1000, 1000, 2000, 4000, 8000, 15000, 15000, 30000, 1800000}
	waits := chromium.Call[[]float64](t, p.Tab, "() => log.delays")
	for i, ms := range waits {
		if i >= len(least) || ms < least[i] || ms > 2*least[i] {
			t.Fatalf("the page waits for %v ms, want %v times 1 to 2", waits, least)
		}
	}

	// It is not in a hurry where the server is not, but does as it is told.
	chromium.Call[chromedp.Void](t, p.Tab, `() => { dispatchEvent(new Event("online")); }`)
	retryAfter <- ""
	if len(retryAfter) != 1 {
		t.Error("the page came back before the Retry-After")
	}
	chromium.Call[chromedp.Void](t, p.Tab, "() => { stream.reconnect(); }")
	p.wait(t, "log.statuses.length === 10")
}

// The network is back, and so is the page, however long it would have waited.
func TestOnline(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.refuses.Store(http.StatusServiceUnavailable)
	p := s.visit(t, object{"faster": 0.01})
	p.wait(t, "log.delays.length === 1")
	s.refuses.Store(0)
	chromium.Call[chromedp.Void](t, p.Tab, `() => { dispatchEvent(new Event("online")); }`)
	p.wantStatus(t, "open")
}

// A stream that ends again and again, and has no time to wait, is opened again each time, but not in a loop without a pause.
func TestNoRetry(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.visit(t, object{"url": s.app.URL + "/ends", "faster": 1})
	p.wait(t, `log.statuses.length > 10 && log.statuses.includes("open")`)
	for _, ms := range chromium.Call[[]float64](t, p.Tab, "() => log.delays") {
		if ms < 100 {
			t.Errorf("the page waits for %v ms", ms)
		}
	}
}

// A stream that is silent for two heartbeats is dead.
func TestSilence(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.visit(t, object{"heartbeat": 0.3})
	p.wait(t, `log.problem.message === "no byte for 0.6 s"`)
	s.wantConnects(t, 3)
}

// An event at which the page fails costs a load of the state, and nothing else.
func TestFailingPage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.visit(t, object{"throws": 2, "keep": "number"})
	p.wantStatus(t, "open")
	s.change(t, 2)
	p.wait(t, "log.loads === 2 && log.state === 2")
	p.wantStatus(t, "open")
	s.change(t, 1)
	p.wantState(t, 3)
	p.wantTaken(t, 1, 3, 2)

	// Without load it goes on, as an EventSource does.
	p = s.visit(t, object{"throws": 4, "withoutLoad": true})
	p.wantStatus(t, "open")
	s.change(t, 2)
	p.wantState(t, 5)
	if taken := p.log(t).Taken; len(taken) != 2 {
		t.Errorf("the page has taken %v", taken)
	}
}

// A state that cannot be loaded is loaded when it can; the page is not open before.
func TestFailingLoad(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	answer := s.app.Config.Handler
	failing := make(chan struct{}, 1)
	s.app.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-failing:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			answer.ServeHTTP(w, r)
		}
	})
	p := s.visit(t, object{})
	p.wantStatus(t, "open")
	s.change(t, 1)
	p.wantState(t, 1)
	failing <- struct{}{}
	chromium.Call[chromedp.Void](t, p.Tab, `() => { stream.reconnect(""); }`)
	p.wait(t, `log.loads === 3 && log.status === "open"`)
	s.change(t, 1)
	p.wantState(t, 2)
	p.wantTaken(t, 1, 2, 3)
}

// A thousand events at once arrive, each once and in order.
func TestBurst(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.visit(t, object{"keep": "number"})
	other := s.visit(t, object{"tabs": "number"})
	third := s.visit(t, object{"tabs": "number"})
	for _, p := range []*tab{p, other, third} {
		p.wantStatus(t, "open")
	}
	s.change(t, 1000)
	for _, p := range []*tab{p, other, third} {
		p.wantState(t, 1000)
		p.wantTaken(t, 1, 1000, 1)
	}
}

// A page that its user goes back to goes on at once, as it was, without a connection in between.
func TestBackAndForth(t *testing.T) {
	for _, config := range []object{{}, {"tabs": "number"}} {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			p := s.visit(t, config)
			p.wantStatus(t, "open")
			s.change(t, 1)
			p.wantState(t, 1)
			chromium.Run(t, p.Tab, chromedp.Navigate(s.app.URL+"/state"))
			s.wantDisconnects(t, 1)
			s.change(t, 2)
			chromium.Call[chromedp.Void](t, p.Tab, "() => { setTimeout(() => history.back()); }") // NavigateBack waits for a load
			s.wantConnects(t, 2)
			chromium.Call[chromedp.Void](t, p.Tab, `async () => {
				while (log.state < 3) await new Promise((done) => new MutationObserver(done).observe(document, { subtree: true, childList: true }));
			}`) // Wait does not find a page that was kept
			p.wantTaken(t, 1, 3, 1)
		})
	}
}
