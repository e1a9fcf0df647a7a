package contract

import (
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"ssegateway/e2e/harness"
)

// drainLimit is the longest a drain may take by default.
const drainLimit = 4500 * time.Millisecond

var draining = section{title: "10 drain", core: true, cases: []contractCase{
	{name: "SIGTERM and SIGINT: every open connection closed with server_closed, its disconnect delivered, exit 0", run: func(t *T) {
		for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
			s := t.Start()
			var all []*Stream
			for range 10 {
				all = append(all, s.Open("/"))
			}
			signalled := s.signal(signal)
			for _, x := range all {
				x.wantDrained("")
				if c := x.Disconnect(); c.Reason != "server_closed" {
					t.Errorf("reason %q", c.Reason)
				}
			}
			s.wantExitWithin(signalled, drainLimit, 0)
			for _, x := range all {
				if calls := x.callbacks("disconnect", 1); len(calls) != 1 {
					t.Errorf("%d disconnects of one connection", len(calls))
				}
			}
		}
	}},
	{name: "with nothing open: exit 0 at once", run: func(t *T) {
		s := t.Start()
		s.wantExitWithin(s.signal(syscall.SIGTERM), drainLimit, 0)
	}},
	{name: "without a backend: exit 0", run: func(t *T) {
		s := t.StartWith(nil)
		s.wantExitWithin(s.signal(syscall.SIGTERM), drainLimit, 0)
	}},
	{name: "what was sent before arrives before the end", run: func(t *T) {
		s := t.Start()
		x := s.Open("/")
		var want strings.Builder
		for i := range 100 {
			s.Event(x.token, itoa(i))
			want.WriteString("data: " + itoa(i) + "\n\n")
		}
		s.signal(syscall.SIGTERM)
		x.wantDrained(want.String())
	}},
	{name: "while draining: not ready, alive, tokens gone", run: func(t *T) {
		s := t.Start()
		x, release := s.drainSlowly()
		ready := s.Readiness(http.StatusServiceUnavailable)
		if ready.Status != "not_ready" || ready.Configured == nil || !*ready.Configured || len(ready.Reasons) == 0 {
			t.Errorf("readyz: %+v", ready)
		}
		if got := s.Call(http.MethodGet, "/healthz", ""); got.Status != http.StatusOK {
			t.Errorf("healthz: %d %s", got.Status, got.Body)
		}
		s.wantGone(x.token)
		release()
		s.wantExitWithin(time.Now(), drainLimit, 0)
	}},
	{name: "a client that arrives while the gateway drains gets 200, a jittered retry and the end, without a callback", run: func(t *T) {
		s := t.Start()
		_, release := s.drainSlowly()
		retries := map[string]bool{}
		var keys []string
		for range 6 {
			x := s.Begin(harness.Request{Target: "/late"}, harness.Script{})
			keys = append(keys, x.key)
			head := x.WantHead()
			if head.Status != http.StatusOK {
				t.Fatalf("status %d, after which a browser gives up for good", head.Status)
			}
			wantField(t, head, "Content-Type", "text/event-stream")
			body, end, err := x.Rest(patience)
			if end != harness.Clean || !onlyRetry.MatchString(body) {
				t.Fatalf("%q and then %v (%v), want a retry and the end", body, end, err)
			}
			retries[body] = true
		}
		if len(retries) == 1 {
			t.Errorf("six times the same %v", retries)
		}
		release()
		s.wantExitWithin(time.Now(), drainLimit, 0)
		for _, key := range keys {
			if calls := s.backend.Calls(func(c *harness.Callback) bool { return c.Key == key }); len(calls) != 0 {
				t.Errorf("callback %s, want none", calls[0].Body)
			}
		}
	}},
	{name: "a connect that is answered during the drain opens no stream that lasts, and its disconnect is delivered", run: func(t *T) {
		s := t.Start()
		pending, accept := s.pending()
		_, release := s.drainSlowly()
		accept()
		pending.WantHead()
		if _, end, err := pending.Rest(patience); end != harness.Clean {
			t.Errorf("%v: %v", end, err)
		}
		if c := pending.Disconnect(); c.Reason != "server_closed" {
			t.Errorf("reason %q", c.Reason)
		}
		release()
		s.wantExitWithin(time.Now(), drainLimit, 0)
	}},
	{name: "a connect that is refused during the drain gets no disconnect", run: func(t *T) {
		s := t.Start()
		refuse := make(chan struct{})
		x := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: answerAfter(refuse, harness.Answer{Status: 403})})
		x.Connect()
		_, release := s.drainSlowly()
		close(refuse)
		x.Reply()
		release()
		s.wantExitWithin(time.Now(), drainLimit, 0)
		if calls := s.backend.Calls(action(x.key, "disconnect")); len(calls) != 0 {
			t.Errorf("callback %s, want none", calls[0].Body)
		}
	}},
	{name: "a connect that is not answered does not hold the drain up, and the backend is told", slow: true, run: func(t *T) {
		s := t.Start()
		s.wantExit = -1
		x := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: hang})
		x.Connect()
		signalled := s.signal(syscall.SIGTERM)
		x.WantHead()
		if _, end, err := x.Rest(patience); end != harness.Clean {
			t.Errorf("%v: %v", end, err)
		}
		x.Disconnect()
		s.wantExitWithin(signalled, drainLimit, -1)
	}},
	{name: "disconnects that could not be delivered are counted in an error line and make the exit code 1", slow: true, run: func(t *T) {
		for name, script := range map[string]func(*harness.Callback) harness.Answer{
			"hung": hang, "failing": answerAlways(harness.Answer{Status: 500}),
		} {
			s := t.Start()
			s.wantExit = 1
			for range 7 {
				s.OpenWith(harness.Request{Target: "/" + name}, harness.Script{Disconnect: script})
			}
			s.wantExitWithin(s.signal(syscall.SIGTERM), drainLimit, 1)
			s.WantLog(`(?i)\berror\b`, `\b7\b`)
		}
	}},
	{name: "200 disconnects to a backend that takes 50 ms for each are delivered in time", run: func(t *T) {
		s := t.Start()
		var all []*Stream
		for range 200 {
			all = append(all, s.OpenWith(harness.Request{Target: "/"}, harness.Script{Disconnect: func(c *harness.Callback) harness.Answer {
				select {
				case <-c.Context.Done():
				case <-time.After(50 * time.Millisecond):
				}
				return harness.Answer{}
			}}))
		}
		signalled := s.signal(syscall.SIGTERM)
		s.wantExitWithin(signalled, drainLimit, 0)
		for _, x := range all {
			if calls := s.backend.Calls(action(x.key, "disconnect")); len(calls) != 1 {
				t.Errorf("%d disconnects", len(calls))
			}
		}
	}},
	{name: "what failed before is retried and delivered in the drain", run: func(t *T) {
		s := t.Start()
		x := s.OpenWith(harness.Request{Target: "/"}, harness.Script{Disconnect: answerOnce(harness.Answer{Status: 503}, harness.Answer{})})
		signalled := s.signal(syscall.SIGTERM)
		s.wantExitWithin(signalled, drainLimit, 0)
		if calls := x.callbacks("disconnect", 1); len(calls) != 2 {
			t.Errorf("%d attempts", len(calls))
		}
	}},
}}

var ownDraining = section{title: "10 drain, what this gateway adds", cases: []contractCase{
	{name: "detail says why: draining", run: func(t *T) {
		s := t.Start()
		x := s.Open("/")
		s.signal(syscall.SIGTERM)
		if c := x.Disconnect(); c.Reason != "server_closed" || c.Detail != "draining" {
			t.Errorf("reason %q, detail %q", c.Reason, c.Detail)
		}
		s.WantLog(x.token, `reason=server_closed`, `detail=draining`)
	}},
	{name: "streams get a jittered retry before their end", run: func(t *T) {
		s := t.Start()
		var all []*Stream
		for range 6 {
			all = append(all, s.Open("/"))
		}
		s.signal(syscall.SIGTERM)
		retries := map[string]bool{}
		for _, x := range all {
			body, end, err := x.Rest(patience)
			if end != harness.Clean || !onlyRetry.MatchString(body) {
				t.Fatalf("%q and then %v (%v), want a retry and the end", body, end, err)
			}
			retries[body] = true
		}
		if len(retries) == 1 {
			t.Errorf("six times the same %v", retries)
		}
	}},
	{name: "a client that takes nothing does not hold the drain up", slow: true, run: func(t *T) {
		s := t.Start()
		x := s.openStopped()
		s.Event(x.token, oversized)
		signalled := s.signal(syscall.SIGTERM)
		s.wantExitWithin(signalled, drainLimit, 0)
		calls := x.callbacks("disconnect", 1)
		if len(calls) != 1 || calls[0].Reason != "server_closed" {
			t.Errorf("%d disconnects, the first with reason %q", len(calls), calls[0].Reason)
		}
	}},
	{name: "DRAIN_SECONDS spreads the closing of streams over its first half, and turns clients away in the rest", slow: true, run: func(t *T) {
		s := t.Start("DRAIN_SECONDS=4")
		var all []*Stream
		for range 20 {
			all = append(all, s.Open("/"))
		}
		signalled := s.signal(syscall.SIGTERM)
		var at []time.Time
		for _, x := range all {
			x.wantDrained("")
			at = append(at, x.EndedAt())
		}
		late := s.Begin(harness.Request{Target: "/late"}, harness.Script{})
		late.WantHead()
		if body, end, err := late.Rest(patience); end != harness.Clean || !onlyRetry.MatchString(body) {
			t.Errorf("after the last close: %q and then %v (%v), want a retry and the end", body, end, err)
		}
		s.wantExitWithin(signalled, 4*time.Second+drainLimit, 0)
		first, last := slices.MinFunc(at, time.Time.Compare), slices.MaxFunc(at, time.Time.Compare)
		if spread := last.Sub(first); spread < time.Second || last.Sub(signalled) > 2*time.Second+slack {
			t.Errorf("20 streams were closed from %v to %v after the signal, want them spread over 2 s", first.Sub(signalled), last.Sub(signalled))
		}
		if rest := s.gw.ExitedAt().Sub(last); rest < 2*time.Second-slack {
			t.Errorf("the process ended %v after the last close, want 2 s", rest)
		}
	}},
	{name: "a second SIGTERM ends DRAIN_SECONDS, says so, and every disconnect is still delivered", run: func(t *T) {
		s := t.Start("DRAIN_SECONDS=3600")
		var all []*Stream
		for range 10 {
			all = append(all, s.Open("/"))
		}
		s.signal(syscall.SIGTERM)
		s.WantLog("draining")
		signalled := s.signal(syscall.SIGTERM)
		for _, x := range all {
			x.wantDrained("")
			if c := x.Disconnect(); c.Reason != "server_closed" || c.Detail != "draining" {
				t.Errorf("reason %q, detail %q", c.Reason, c.Detail)
			}
		}
		s.wantExitWithin(signalled, drainLimit, 0)
		s.WantLog(`told to hurry`)
	}},
	{name: "SIGHUP ends nothing: it reloads, and says so", run: func(t *T) {
		s := t.Start("LOG_LEVEL=info")
		x := s.Open("/")
		if err := s.gw.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		s.WantLog(`^\[INFO\] reloaded log_level=info`)
		s.Event(x.token, "x")
		x.Want("data: x\n\n")
	}},
}}

var onlyRetry = regexp.MustCompile(`^retry: [1-9][0-9]*\n\n$`)

// signal sends the signal, and returns the time at which it did.
func (s *Site) signal(signal os.Signal) time.Time {
	s.t.Helper()
	s.signalled = true
	at := time.Now()
	if err := s.gw.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
	return at
}

// drainSlowly starts a drain, and returns when it has begun. The drain lasts until release,
// because a disconnect callback is not answered before.
func (s *Site) drainSlowly() (ended *Stream, release func()) {
	s.t.Helper()
	hold := make(chan struct{})
	x := s.OpenWith(harness.Request{Target: "/first"}, harness.Script{Disconnect: acceptAfter(hold)})
	s.signal(syscall.SIGTERM)
	x.wantDrained("")
	x.Disconnect()
	return x, func() { close(hold) }
}

// wantDrained waits for a clean end after these bytes and an optional retry.
func (x *Stream) wantDrained(want string) {
	x.s.t.Helper()
	rest, end, err := x.Rest(patience)
	after, found := strings.CutPrefix(rest, want)
	if end != harness.Clean || !found || after != "" && !onlyRetry.MatchString(after) {
		x.s.t.Fatalf("%s and then %v (%v), want %s, perhaps a retry, and the end", quoted(rest), end, err, quoted(want))
	}
}

// wantExitWithin waits for the exit. A code of -1 means any.
func (s *Site) wantExitWithin(since time.Time, limit time.Duration, want int) {
	s.t.Helper()
	code, err := s.gw.Exit(stopPatience)
	if err != nil {
		s.t.Fatal(err)
	}
	if code != want && want >= 0 {
		s.t.Errorf("exit code %d, want %d", code, want)
	}
	if took := s.gw.ExitedAt().Sub(since); took > limit+slack {
		s.t.Errorf("the drain took %v, want at most %v", took, limit)
	}
}
