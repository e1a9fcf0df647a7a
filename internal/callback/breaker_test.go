package callback

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/bubble"
	"ssegateway/internal/gateway"
)

// A row of failures, each by how long it comes behind the one before, and whether the backend counts as down after it.
func TestBreaker(t *testing.T) {
	const (
		failure = iota
		again   // of a callback that has failed before
		stale   // of a callback that was begun before the last success
		success
	)
	type step struct {
		what, times int
		every       time.Duration
		isDown      bool
	}
	for name, steps := range map[string][]step{
		"too few":              {{failure, 19, time.Minute, false}},
		"enough":               {{failure, 19, time.Second, false}, {failure, 1, 0, true}},
		"too soon":             {{failure, 1000, 1999 * time.Microsecond, false}, {failure, 1, 3 * time.Millisecond, true}},
		"all at once":          {{failure, 1000, 0, false}, {failure, 1, 2 * time.Second, true}},
		"one instance of two":  {{failure, 19, time.Second, false}, {success, 1, 0, false}, {failure, 19, time.Second, false}, {success, 1, 0, false}, {failure, 19, time.Second, false}},
		"the same ones":        {{failure, 19, time.Second, false}, {again, 1000, time.Second, false}, {failure, 1, time.Second, true}},
		"the same ones, later": {{failure, 1000, 0, false}, {again, 1, 2 * time.Second, true}},
		"old ones":             {{success, 1, time.Second, false}, {stale, 1000, time.Second, false}, {failure, 19, time.Second, false}, {stale, 10, time.Second, false}},
		"back":                 {{failure, 21, time.Second, true}, {failure, 5, time.Second, true}, {success, 1, 0, false}, {failure, 19, time.Second, false}, {failure, 1, 0, true}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var l logBuffer
				var b breaker
				backs := 0
				b.init(l.logger(), func() { backs++ })
				long := time.Now().Add(-time.Minute)
				turns, was := 0, false
				for i, s := range steps {
					for range s.times {
						<-time.After(s.every)
						switch s.what {
						case success:
							b.observe(&reply{status: 500}, time.Now(), false)
						case stale:
							b.observe(&reply{status: 503}, long, false)
						default:
							b.observe(&reply{status: 503}, time.Now(), s.what == again)
						}
						if b.isDown != was {
							turns, was = turns+1, b.isDown
						}
					}
					if b.isDown != s.isDown {
						t.Errorf("down is %v behind step %d, want %v", b.isDown, i, s.isDown)
					}
				}
				if n := strings.Count(l.String(), "\n"); n != turns || backs != turns/2 {
					t.Errorf("%d changes, told %d times: %s", turns, backs, l.String())
				}
			})
		})
	}
}

// A connect as clients make them, one every so often.
func connectEvery(t *testing.T, c *Client, every time.Duration, times int) (outcomes map[gateway.Outcome]int) {
	outcomes = map[gateway.Outcome]int{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for range times {
		all.Go(func() {
			a := connect(t, c)
			mu.Lock()
			outcomes[a.Outcome]++
			mu.Unlock()
		})
		<-time.After(every)
	}
	all.Wait()
	return outcomes
}

// While a backend is down it gets one callback a second, and the others are refused at once and not counted as callbacks. As
// soon as it answers, all are made.
func TestDown(t *testing.T) {
	for name, kind := range map[string]struct {
		status  int
		outcome gateway.Outcome
	}{
		"refusing": {-1, gateway.Unreachable}, "silent": {0, gateway.TimedOut}, "502": {502, gateway.Refused}, "503": {503, gateway.Refused}, "504": {504, gateway.Refused},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var l logBuffer
				var r results
				b := newPipeBackend(t)
				b.refusing = kind.status < 0
				got := 0
				status := kind.status
				b.take = func(http.Header, []byte) int { got++; return status }
				c := b.client(t, Config{Log: l.logger(), Observe: r.observe})
				connectEvery(t, c, 100*time.Millisecond, 30) // silent: timed out when this returns, over 3 s
				connect(t, c)
				if !c.Down() {
					t.Fatal("not down")
				}
				synctest.Wait()
				before, refused := b.count(&got), c.RefusedConnects()
				start := time.Now()
				outcomes := connectEvery(t, c, 10*time.Millisecond, 1000)
				probes := 10
				if n := b.count(&got) - before; n < probes-1 || n > probes+1 {
					t.Errorf("%d callbacks in 10 s", n)
				}
				if made := 1000 - int(c.RefusedConnects()-refused); made < probes-1 || made > probes+1 || outcomes[gateway.Unreachable] < 1000-probes-1 {
					t.Errorf("%d made, outcomes %v", made, outcomes)
				}
				if took := time.Since(start); took > 15*time.Second {
					t.Errorf("took %v", took)
				}
				if kind.outcome != gateway.Unreachable && outcomes[kind.outcome] < probes-1 {
					t.Errorf("outcomes %v", outcomes)
				}
				if n := strings.Count(r.String(), ":") + strings.Count(l.String(), "the backend is down"); n != 2 {
					t.Errorf("observed %s, log %.300s", r.String(), l.String())
				}

				b.mu.Lock()
				b.refusing, status = false, 200
				b.mu.Unlock()
				<-time.After(probeEvery)
				if a := connect(t, c); a.Outcome != gateway.Accepted {
					t.Errorf("outcome %v of the first probe when it is back", a.Outcome)
				}
				if outcomes = connectEvery(t, c, 0, 1000); outcomes[gateway.Accepted] != 1000 || c.Down() {
					t.Errorf("outcomes %v when it is back", outcomes)
				}
				if n := strings.Count(l.String(), "the backend is back"); n != 1 {
					t.Errorf("said %d times that it is back", n)
				}
			})
		})
	}
}

// count returns a number that take changes; of a backend that refuses, how often it was dialled is not known.
func (p *pipeBackend) count(n *int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refusing {
		return p.refused
	}
	return *n
}

// An answer is one, whatever it says: such a backend is never down.
func TestNotDown(t *testing.T) {
	for _, status := range []int{200, 204, 302, 400, 401, 403, 404, 408, 429, 500, 501, 505, 599, 600} {
		bubble.Test(t, func(t *testing.T) {
			b := newPipeBackend(t)
			b.take = func(http.Header, []byte) int { return status }
			c := b.client(t, Config{})
			if outcomes := connectEvery(t, c, 50*time.Millisecond, 200); c.Down() || c.RefusedConnects() != 0 || outcomes[gateway.Accepted]+outcomes[gateway.Refused] != 200 {
				t.Errorf("%d: down %v, outcomes %v", status, c.Down(), outcomes)
			}
		})
	}
}

// Connects that nobody waits for any more say nothing of the backend.
func TestCutConnectsAreNoFailures(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newPipeBackend(t)
		b.take = func(http.Header, []byte) int { return 0 }
		c := b.client(t, Config{})
		for range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			c.Connect(ctx, context.Background(), gateway.NewToken(), request)
			cancel()
		}
		if c.Down() {
			t.Error("down")
		}
	})
}

// Who waits for a turn when the backend turns out to be down is refused at once, and no probe waits for a turn.
func TestDownWhileConnectsWait(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newPipeBackend(t)
		b.take = func(_ http.Header, raw []byte) int {
			if strings.HasPrefix(string(raw), disconnectOpen) {
				return 503
			}
			return 0
		}
		c := b.client(t, Config{Concurrency: 20})
		start := time.Now()
		took := map[string]int{}
		var mu sync.Mutex
		var all sync.WaitGroup
		ask := func() {
			a := connect(t, c)
			mu.Lock()
			defer mu.Unlock()
			took[fmt.Sprint(time.Since(start), " asked=", a.Known())]++
		}
		for range 1000 {
			all.Go(ask)
		}
		for range downAfter {
			c.Disconnect(closed())
			<-time.After(100 * time.Millisecond)
		}
		c.Disconnect(closed()) // now it is down, and all turns are taken until 5 s
		<-time.After(1500 * time.Millisecond)
		for range 10 {
			all.Go(ask)
		}
		all.Wait()
		if took["2s asked=false"] != 980 || took["3.5s asked=false"] != 10 || took["5s asked=true"] != 20 {
			t.Error(took)
		}
	})
}

// Within the little time of a drain the backend is probed more often.
func TestFlushWhileDown(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newPipeBackend(t)
		b.refusing = true
		c := b.client(t, Config{})
		for range 100 {
			c.Disconnect(closed())
			<-time.After(30 * time.Millisecond)
		}
		for phase := range 10 {
			<-time.After(time.Duration(phase) * 100 * time.Millisecond)
			if !c.Down() {
				t.Fatal("not down")
			}
			start := time.Now()
			time.AfterFunc(time.Second, func() {
				b.mu.Lock()
				b.refusing = false
				b.mu.Unlock()
			})
			c.Flush(t.Context())
			if took := time.Since(start); took > time.Second+2*flushDelay {
				t.Errorf("flushed %v after the return", took-time.Second)
			}
			b.mu.Lock()
			b.refusing = true
			b.mu.Unlock()
			<-time.After(2 * idleTimeout) // idle connections still work
			for range 100 {
				c.Disconnect(closed())
				<-time.After(30 * time.Millisecond)
			}
		}
	})
}

// Ends wait while the backend is down, however long, and are told at once when it is back. Meanwhile one a second is tried.
func TestDisconnectsWhileDown(t *testing.T) {
	for _, batch := range []int{1, 10} {
		t.Run(fmt.Sprint("batches of ", batch), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				delayed := map[gateway.Token]int{}
				finished := map[gateway.Token]int{}
				count := func(m map[gateway.Token]int, n gateway.Notice) {
					mu.Lock()
					defer mu.Unlock()
					m[n.Token]++
				}
				b := newPipeBackend(t)
				b.refusing = true
				posts := 0
				b.take = func(http.Header, []byte) int { posts++; return 200 }
				c := b.client(t, Config{
					Batch: batch, OnDelayed: func(n gateway.Notice) { count(delayed, n) }, OnFinished: func(n gateway.Notice, _ bool) { count(finished, n) },
				})
				const ends = 1000
				for range ends {
					c.Disconnect(closed())
					<-time.After(4 * time.Millisecond) // a batch fills before its time
				}
				if !c.Down() {
					t.Fatal("not down")
				}
				<-time.After(10 * time.Second)
				before := b.count(nil)
				<-time.After(time.Hour)
				if n := b.count(nil) - before; n < 3599 || n > 3601 {
					t.Errorf("%d attempts in an hour", n)
				}
				if c.Pending() != ends || len(delayed) != ends || len(finished) != 0 {
					t.Errorf("%d pending, %d delayed, %d finished", c.Pending(), len(delayed), len(finished))
				}
				b.mu.Lock()
				b.refusing = false
				b.mu.Unlock()
				<-time.After(probeEvery + 10*time.Millisecond)
				if c.Pending() > ends/100*batch { // those that were just tried wait up to 10 s
					t.Errorf("%d are pending after the return", c.Pending())
				}
				<-time.After(maxDelay)
				if c.Pending() != 0 || len(finished) != ends || posts != ends/batch {
					t.Errorf("%d pending, %d finished with %d callbacks", c.Pending(), len(finished), posts)
				}
				for token, n := range finished {
					if n != 1 || delayed[token] != 1 {
						t.Fatalf("finished %d times, delayed %d times", n, delayed[token])
					}
				}
			})
		})
	}
}

// The ten minutes of a notice begin anew when the backend is back.
func TestGivingUpBehindAnOutage(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newPipeBackend(t)
		b.refusing = true
		odd := closed()
		var last time.Time
		b.answer = func(n *body, _ int) int {
			if n.Token == odd.Token.String() {
				last = time.Now()
				return 500
			}
			return 200
		}
		c := b.client(t, Config{})
		c.Disconnect(odd)
		for range 100 {
			c.Disconnect(closed())
			<-time.After(30 * time.Millisecond)
		}
		<-time.After(time.Hour)
		b.mu.Lock()
		b.refusing = false
		b.mu.Unlock()
		back := time.Now()
		<-time.After(15 * time.Minute)
		if d := last.Sub(back); d < giveUpAfter || d > giveUpAfter+2*maxDelay || c.Pending() != 0 {
			t.Errorf("the last attempt %v after the return, %d pending", d, c.Pending())
		}
	})
}

// One end that the backend can never take does not make it count as down, also where nothing else happens.
func TestOneBadEnd(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newPipeBackend(t)
		b.take = func(_ http.Header, raw []byte) int {
			if strings.Contains(string(raw), ActionConnect+`"`) && !strings.Contains(string(raw), ActionDisconnect) {
				return 200
			}
			return 503
		}
		c := b.client(t, Config{})
		for range downAfter - 1 {
			c.Disconnect(closed())
		}
		<-time.After(9 * time.Minute)
		if outcomes := connectEvery(t, c, 0, 100); outcomes[gateway.Accepted] != 100 {
			t.Errorf("outcomes %v", outcomes)
		}
	})
}
