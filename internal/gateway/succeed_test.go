package gateway_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/gateway"
	"ssegateway/sse"
)

// succession is an engine whose log is succeeded by others.
type succession struct {
	mu  sync.Mutex
	log *broker.Log
}

func (s *succession) Log() *broker.Log {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log
}

func (s *succession) Append(_ context.Context, p broker.Publication) (broker.Position, error) {
	return s.Log().Append(p)
}

func (s *succession) Run(context.Context) error { return nil }

func (s *succession) succeed(next *broker.Log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.log
	s.log = next
	before.Succeed(next)
}

// logOf is a log with events of topic t behind an offset: stored ones, but for "-".
func logOf(epoch string, behind uint64, data ...string) func() *broker.Log {
	return func() *broker.Log {
		log := broker.NewLog(epoch, 1<<20, time.Hour)
		log.BeginAt(behind)
		for _, d := range data {
			_, _ = log.Append(broker.Publication{Topics: []string{"t"}, Event: sse.Event{Data: d}, Store: d != "-"}) // it is open
		}
		return log
	}
}

// A log that is succeeded leaves no client in silence: each learns of what is lost by a
// gap, and gets everything else, once and in order. Slow clients, who have some of the
// log before still to get, get that first.
func TestLogSucceeded(t *testing.T) {
	const begin = "id: A-0\n\nid: A-1\ndata: 1\n\nid: A-2\ndata: 2\n\ndata: -\n\n"
	gap := func(last, id string) string {
		return "event: gap\nid: " + id + "\ndata: {\"last_event_id\":\"" + last + "\"}\n\n"
	}
	for name, test := range map[string]struct {
		next func() *broker.Log
		want string // behind what was there, and before what is published then
	}{
		"another, empty":              {logOf("B", 0), gap("A-2", "B-0")},
		"another, with events":        {logOf("B", 0, "x", "-", "y"), gap("A-2", "B-0") + "id: B-1\ndata: x\n\nid: B-2\ndata: y\n\n"},
		"another, trimmed":            {logOf("B", 7, "x"), gap("A-2", "B-7") + "id: B-8\ndata: x\n\n"},
		"the same, nothing missed":    {logOf("A", 0, "1", "2"), ""},
		"the same, trimmed to where":  {logOf("A", 2), ""},
		"the same, with more":         {logOf("A", 0, "1", "2", "x", "y"), "id: A-3\ndata: x\n\nid: A-4\ndata: y\n\n"},
		"the same, with a hole":       {logOf("A", 5, "x"), gap("A-2", "A-5") + "id: A-6\ndata: x\n\n"},
		"the same, nothing left":      {logOf("A", 9), gap("A-2", "A-9")},
		"the same, only what is gone": {logOf("A", 2, "-"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				engine := &succession{log: logOf("A", 0)()}
				s := newSite(func(cfg *gateway.Config) { cfg.Broker = engine })
				s.run(t)
				var tapes []*tape
				for _, room := range []int{plenty, plenty, plenty, 10, 10} {
					_, tp := s.grant(t, room, gateway.Grant{Topics: []string{"t", "u"}})
					tapes = append(tapes, tp)
				}
				for _, d := range []string{"1", "2", "-"} {
					s.publish(t, d, d != "-", "t")
				}
				engine.succeed(test.next())
				synctest.Wait()
				position, receivers := s.publish(t, "live", true, "t")
				if receivers != len(tapes) {
					t.Errorf("%d receivers, want %d", receivers, len(tapes))
				}
				s.publish(t, "-", false, "t")
				synctest.Wait()
				want := begin + test.want + fmt.Sprintf("id: %v\ndata: live\n\ndata: -\n\n", position)
				for i, tp := range tapes {
					for tp.written() != want && tp.Unacked() < 1<<12 {
						tp.takes(50)
						synctest.Wait()
					}
					if got := tp.written(); got != want {
						t.Errorf("client %d has\n%s\nwant\n%s", i, got, want)
					}
				}
				// Who comes back with what it had is told the same.
				_, back := s.grant(t, plenty, gateway.Grant{Topics: []string{"t"}, LastEventID: "A-2"})
				synctest.Wait()
				if got := back.written(); strings.Contains(got, "event: gap") != strings.Contains(test.want, "gap") {
					t.Errorf("who comes back has\n%s", got)
				}
			})
		})
	}
}
