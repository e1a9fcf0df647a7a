package gateway_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/bubble"
	"ssegateway/internal/gateway"
	"ssegateway/internal/topics"
)

// An event that waits for many clients is in memory once, and counts once.
func TestSharedEventsCountOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const clients, size = 50, 100_000
		s := newSite(func(cfg *gateway.Config) { cfg.BudgetBytes = 10 * size })
		s.run(t)
		var conns []*gateway.Conn
		var tapes []*tape
		for range clients {
			c, tp := s.grant(t, 0, gateway.Grant{Topics: []string{"t"}})
			conns, tapes = append(conns, c), append(tapes, tp)
		}
		if _, n := s.publish(t, strings.Repeat("x", size), true, "t"); n != clients {
			t.Errorf("%d receivers, want %d", n, clients)
		}
		s.expectEnds(t)
		// Each client has two items: what opens the stream, and the event.
		if n := s.gw.QueuedBytes(); n < size || n > size+clients*300 {
			t.Errorf("%d bytes wait, while one event has %d", n, size)
		}
		if i := conns[0].Info(); i.Queued < size {
			t.Errorf("%d bytes wait for one client", i.Queued)
		}
		for n, tp := range tapes {
			if n%2 == 0 {
				conns[n].Abort(gateway.ClientClosed, 0)
			} else {
				tp.takes(plenty)
			}
			if n := s.gw.QueuedBytes(); n < size && tp != tapes[clients-1] {
				t.Fatalf("%d bytes wait while some have the event", n)
			}
		}
		if n := s.gw.QueuedBytes(); n != 0 {
			t.Errorf("%d bytes wait after all clients took everything", n)
		}
		for _, c := range conns {
			c.Abort(gateway.ClientClosed, 0)
		}
		s.expectNothingLeft(t)
	})
}

// Beyond the budget, clients with much in their queues that take nothing are cut first, not
// those that read, however full their queues are.
func TestWhoReadsIsCutLast(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const size = 10_000
		s := newSite(func(cfg *gateway.Config) { cfg.BudgetBytes = 100 * size })
		s.run(t)
		event := eventOf(t, size)
		var readers []*tape
		for range 10 {
			_, tp := s.open(t, 0)
			readers = append(readers, tp)
		}
		// Twice as much waits for each reader as for a client that does not read.
		for range 4 {
			for _, tp := range readers {
				tp.conn.Send(event, false, nil)
			}
		}
		var silent []*gateway.Conn
		for range 45 {
			c, _ := s.open(t, 0)
			c.Send(event, false, nil)
			silent = append(silent, c)
		}
		for range 5 {
			for _, tp := range readers {
				tp.takes(100) // a little
			}
			time.Sleep(time.Second) // fake clock
		}
		for _, tp := range readers {
			tp.takes(100)
		}
		for range 2 {
			for _, c := range silent {
				c.Send(event, false, nil)
			}
		}
		synctest.Wait()
		for _, tp := range readers {
			if tp.conn.State() != gateway.Open {
				t.Error("a client that reads was cut")
			}
		}
		cut := 0
		for _, c := range silent {
			if c.State() == gateway.Closed {
				cut++
			}
		}
		if n := s.gw.QueuedBytes(); cut == 0 || n > 100*size {
			t.Errorf("%d clients were cut, %d bytes wait", cut, n)
		}
		for _, end := range s.ends() {
			if end != "error/slow_consumer" {
				t.Errorf("an end with the reason %s", end)
			}
		}
	})
}

// When the budget is exceeded, a part of it is freed, large enough that the next event does not
// exceed it again.
func TestRelief(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const size, budget = 1000, 32_000
		s := newSite(func(cfg *gateway.Config) { cfg.BudgetBytes = budget })
		s.run(t)
		event := eventOf(t, size)
		for range 40 {
			c, _ := s.open(t, 0)
			c.Send(event, false, nil)
			synctest.Wait()
			if len(s.ends()) > 0 {
				break
			}
		}
		if n, free := len(s.ends()), budget-s.gw.QueuedBytes(); n < 2 || n > 4 || free < budget/16 || free > budget/8 {
			t.Errorf("%d clients were cut, %d bytes are free", n, free)
		}
	})
}

// A sender beyond the budget cuts no connections itself, however many clients are too slow. It
// only wakes up the goroutine that does.
func TestReliefIsNotTheSenders(t *testing.T) {
	const size = 1000
	s := newSite(func(cfg *gateway.Config) { cfg.BudgetBytes = 10 * size }) // not running
	event := eventOf(t, size)
	for range 100 {
		c, _ := s.open(t, 0)
		c.Send(event, false, nil)
	}
	s.expectEnds(t)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = s.gw.Run(ctx) })
	for s.gw.QueuedBytes() > 10*size {
		runtime.Gosched()
	}
	cancel()
	running.Wait()
	if n := len(s.ends()); n < 89 {
		t.Errorf("%d clients were cut, want at least 89", n)
	}
}

// A replay takes a little of the log at a time. This counts as waiting, since it stays in memory
// even if the log is trimmed while the client is slow.
func TestReplaysCount(t *testing.T) {
	for _, test := range []struct{ size, events, least, most int }{
		{100_000, 20, 100_000, 110_000}, // at least one event
		{1000, 500, 60_000, 75_000},
		{10, 1000, 64 * 70, 64 * 150}, // by number
	} {
		bubble.Test(t, func(t *testing.T) {
			s := newSite(nil)
			s.run(t)
			for range test.events {
				s.publish(t, strings.Repeat("x", test.size), true, "t")
			}
			c, tp := s.grant(t, 0, gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: s.topics.Log().Epoch + "-0"}})
			tp.takes(100) // the opening, and a part of the first event
			synctest.Wait()
			if n := s.gw.QueuedBytes(); n < int64(test.least) || n > int64(test.most) || c.Info().Queued != n {
				t.Errorf("%d events of %d bytes: %d bytes wait, %d for the client, want %d to %d", test.events, test.size, n, c.Info().Queued, test.least, test.most)
			}
			tp.takes(plenty)
			synctest.Wait()
			if n := strings.Count(tp.written(), "data: "); n != test.events {
				t.Errorf("%d events arrived, want %d", n, test.events)
			}
			c.Abort(gateway.ClientClosed, 0)
			s.expectNothingLeft(t)
		})
	}
}

// Beyond the budget, clients with replays are cut like others.
func TestReplaysAreCut(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const size = 100_000
		s := newSite(func(cfg *gateway.Config) { cfg.BudgetBytes = 5 * size })
		s.run(t)
		for range 10 {
			s.publish(t, strings.Repeat("x", size), true, "t")
		}
		for n := range 10 { // each at another event
			_, tp := s.grant(t, 0, gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: fmt.Sprintf("%s-%d", s.topics.Log().Epoch, n)}})
			tp.takes(100)
			synctest.Wait()
		}
		if n := len(s.ends()); s.gw.QueuedBytes() > 5*size || n < 5 || n > 7 {
			t.Errorf("%d clients were cut, %d bytes wait", n, s.gw.QueuedBytes())
		}
	})
}

// What waits of a replay takes no room from the live events after it.
func TestReplayLeavesRoom(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSite(func(cfg *gateway.Config) { cfg.QueueBytes = 1000 })
		s.run(t)
		for range 100 {
			s.publish(t, strings.Repeat("x", 100), true, "t")
		}
		c, tp := s.grant(t, 0, gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: s.topics.Log().Epoch + "-0"}})
		tp.takes(100)
		synctest.Wait()
		for range 2 {
			if r := c.Send(eventOf(t, 400), false, nil); r != gateway.Sent {
				t.Fatalf("Send returned %d", r)
			}
		}
		if r := c.Send(eventOf(t, 400), false, nil); r != gateway.Failed {
			t.Errorf("Send beyond the bound returned %d", r)
		}
	})
}
