package gateway_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/bubble"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
)

// What a drain itself sends ignores the queue's bound: a client that lags is closed because
// of the drain, not as a slow consumer.
func TestDrainOfFullQueue(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSite(func(cfg *gateway.Config) { cfg.QueueBytes = 1000 })
		c, tp := s.open(t, 0)
		c.Send(eventOf(t, 5000), false, nil)
		over := make(chan struct{})
		go func() {
			defer close(over)
			s.gw.Drain(0, time.Second)
		}()
		synctest.Wait()
		tp.takes(plenty)
		<-over
		if wire := tp.written(); len(wire) < 5000 || !strings.HasPrefix(wire[5000:], "retry: ") || tp.aborted {
			t.Errorf("the client received %d bytes, aborted %v", len(wire), tp.aborted)
		}
		s.expectEnds(t, "server_closed/draining")
		s.expectNothingLeft(t)
	})
}

// Closes are spread evenly over the window except for its last 5 s.
func TestDrainWindow(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSite(nil)
		var tapes []*tape
		for range 100 {
			_, tp := s.open(t, plenty)
			tapes = append(tapes, tp)
		}
		const window = 10 * time.Second
		start := time.Now()
		s.gw.Drain(window, time.Minute)
		const rest = 5 * time.Second
		if took := time.Since(start); took != (window-rest)*99/100+rest {
			t.Errorf("the drain took %v", took)
		}
		perSecond := map[int]int{}
		for _, tp := range tapes {
			perSecond[int(tp.closedAt.Sub(start).Seconds())]++
			ms, ok := strings.CutPrefix(tp.written(), "retry: ")
			if !ok || len(ms) != len("1000\n\n") || tp.aborted {
				t.Errorf("a client received %q, aborted %v", tp.written(), tp.aborted)
			}
		}
		for second := range 5 {
			if n := perSecond[second]; n != 20 {
				t.Errorf("in second %d %d streams were closed, want 20", second, n)
			}
		}
		if n := len(s.ends()); n != 100 {
			t.Errorf("%d disconnects, want 100", n)
		}
		s.expectNothingLeft(t)
	})
}

// When all clients have left, a drain does not wait for the window's end, only for the rest
// after its last close.
func TestDrainOfLeavers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSite(nil)
		var conns []*gateway.Conn
		for range 10 {
			c, _ := s.open(t, plenty)
			conns = append(conns, c)
		}
		start := time.Now()
		go func() {
			time.Sleep(time.Second) // fake clock
			for _, c := range conns {
				c.Abort(gateway.ClientClosed, 0)
			}
		}()
		s.gw.Drain(time.Hour, time.Minute)
		if took := time.Since(start); took != 5*time.Second { // after the first connection, which was closed at once
			t.Errorf("the drain took %v", took)
		}
		s.expectNothingLeft(t)
	})
}

// A client that takes nothing is not cut before the rest and the grace are over.
func TestDrainWindowOfSlowClient(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSite(nil)
		c, tp := s.open(t, 10)
		c.Send(eventOf(t, 100), false, nil)
		start := time.Now()
		s.gw.Drain(10*time.Second, 2*time.Second)
		if took := time.Since(start); took != 7*time.Second || tp.closedAt.Sub(start) != took {
			t.Errorf("the drain took %v, the client was cut after %v", took, tp.closedAt.Sub(start))
		}
		s.expectNothingLeft(t)
	})
}

// A drain without connections returns at once. After it, new connections are refused.
func TestDrainEmpty(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSite(nil)
		start := time.Now()
		s.gw.Drain(time.Hour, time.Hour)
		if took := time.Since(start); took != 0 {
			t.Errorf("the drain took %v", took)
		}
		if _, _, err := s.gw.Connect(t.Context(), request); !errors.Is(err, gateway.ErrDraining) {
			t.Errorf("connecting to a drained gateway returned the error %v", err)
		}
		s.expectNothingLeft(t)
	})
}

// For pending connections the backend has half of the grace to answer. Then the callback is
// cancelled, and the backend is notified of the end if it may have accepted.
func TestDrainPending(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer time.Duration
		unsent bool // the callback had not been sent
		took   time.Duration
		ends   []string
	}{
		{"answered", 300 * time.Millisecond, false, 300 * time.Millisecond, []string{"server_closed/draining"}},
		{"unanswered", time.Hour, false, time.Second, []string{"server_closed/draining"}},
		{"unasked", time.Hour, true, time.Second, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				s := newSite(nil)
				s.answer = func(ctx context.Context) gateway.Answer {
					select {
					case <-time.After(test.answer):
						return accepted
					case <-ctx.Done():
						return gateway.Answer{Outcome: gateway.TimedOut, Unsent: test.unsent}
					}
				}
				handled := make(chan *gateway.Conn)
				go func() {
					c, _, _ := s.gw.Connect(t.Context(), request)
					handled <- c
				}()
				synctest.Wait()
				start := time.Now()
				go s.gw.Drain(0, 2*time.Second)
				c := <-handled
				if took := time.Since(start); took != test.took {
					t.Errorf("the pending connection ended after %v", took)
				}
				if c.State() != gateway.Closed || c.Open(&tape{}, frame.Frame{}, gateway.Grant{}) {
					t.Error("the connection could still be opened")
				}
				synctest.Wait()
				s.expectEnds(t, test.ends...)
				s.expectNothingLeft(t)
			})
		})
	}
}

// Connections that have not ended after the grace are cut, even one that was closed before and
// still writes its queue.
func TestDrainCuts(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSite(nil)
		_, idle := s.open(t, plenty)
		lagging, slow := s.open(t, 10)
		lagging.Send(eventOf(t, 100), false, nil)
		closing, slower := s.open(t, 10)
		closing.Send(eventOf(t, 100), true, nil)
		start := time.Now()
		s.gw.Drain(0, 2*time.Second)
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("the drain took %v", took)
		}
		if !idle.closed || idle.aborted || !slow.closed || !slow.aborted || !slower.closed || !slower.aborted {
			t.Errorf("closed and aborted: idle %v %v, slow %v %v, slower %v %v", idle.closed, idle.aborted, slow.closed, slow.aborted, slower.closed, slower.aborted)
		}
		if n := len(s.ends()); n != 3 {
			t.Errorf("%d disconnects, want 3", n)
		}
		for i, n := range s.notices {
			if n.Reason != gateway.ServerClosed {
				t.Errorf("the backend was notified of end %d as %v/%v", i, n.Reason, n.Detail)
			}
		}
		s.expectNothingLeft(t)
	})
}

// The window times the number of connections may overflow a Duration.
func TestDrainOfLongWindow(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSite(nil)
		var tapes []*tape
		for range 4 {
			_, tp := s.open(t, plenty)
			tapes = append(tapes, tp)
		}
		const window, rest = math.MaxInt64 / 2 * time.Nanosecond, 5 * time.Second
		start := time.Now()
		s.gw.Drain(window, time.Minute)
		slices.SortFunc(tapes, func(a, b *tape) int { return a.closedAt.Compare(b.closedAt) })
		for i, tp := range tapes {
			want := (window - rest) / 4 * time.Duration(i)
			if at := tp.closedAt.Sub(start); at < want || at > want+4 {
				t.Errorf("close %d came after %v, want %v", i, at, want)
			}
		}
		s.expectNothingLeft(t)
	})
}

// After Hurry a drain waits neither for the window nor for the rest. All remaining connections
// are closed at once, and cut after the grace.
func TestDrainHurried(t *testing.T) {
	for _, test := range []struct {
		name        string
		room        int // of a client
		after, took time.Duration
	}{
		{"in the window", plenty, time.Minute, time.Minute},
		{"in its rest", plenty, 54*time.Minute - 2*time.Second, 54*time.Minute - 2*time.Second},
		{"before", plenty, -1, 0},
		{"a slow client", 0, time.Minute, time.Minute + 2*time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				s := newSite(nil)
				for range 10 {
					c, _ := s.open(t, test.room)
					c.Send(eventOf(t, 100), false, nil)
				}
				start := time.Now()
				if test.after < 0 {
					s.gw.Hurry()
				} else {
					time.AfterFunc(test.after, s.gw.Hurry)
				}
				s.gw.Drain(time.Hour, 2*time.Second)
				if took := time.Since(start); took != test.took {
					t.Errorf("the drain took %v, want %v", took, test.took)
				}
				if n := len(s.ends()); n != 10 {
					t.Errorf("%d disconnects, want 10", n)
				}
				s.expectNothingLeft(t)
			})
		})
	}
}
