package gateway_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/bubble"
	"ssegateway/internal/gateway"
	"ssegateway/internal/topics"
	"ssegateway/sse"
)

// nodeSite is a site whose log is that of a node in a cluster: it reads, with a delay, what
// others have appended.
func nodeSite(t *testing.T, log *broker.Log) (site, *replacing) {
	engine := &replacing{log: log}
	s := siteOn(engine, func(cfg *gateway.Config) { cfg.Clustered, cfg.Heartbeat = true, 24*time.Hour })
	s.gw.SetNumber(1)
	s.run(t)
	return s, engine
}

// reads appends events to a log as a node reads them. Their numbers start with at. All are
// stored except "-". Every event takes a number, stored or not.
func reads(t *testing.T, log *broker.Log, at uint64, data ...string) {
	t.Helper()
	for n, d := range data {
		p := broker.Publication{Topics: []string{"t"}, Event: sse.Event{Data: d}, Store: d != "-"}
		if _, err := log.AppendAt(p, at+uint64(n), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Wait()
}

func expectWritten(t *testing.T, what string, tp *tape, want string) {
	t.Helper()
	synctest.Wait()
	if got := tp.written(); got != want {
		t.Errorf("%s: has\n%s\nwant\n%s", what, got, want)
	}
}

// Events that are not stored take numbers as well, and leave holes between those that
// are. A hole does not mean that an event was lost.
func TestNoGapForAHole(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		log := broker.NewLog("A", 1<<20, time.Hour)
		s, engine := nodeSite(t, log)
		_, stays := s.grant(t, plenty, gateway.Grant{Topics: []string{"t"}})
		reads(t, log, 1, "1", "-", "-")
		time.Sleep(2 * time.Hour) // fake clock
		reads(t, log, 1000, "1000")
		_, back := s.grant(t, plenty, gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: "A-1"}})
		expectWritten(t, "back", back, "id: A-1\n\nid: A-1000\ndata: 1000\n\n")
		_, missed := s.grant(t, plenty, gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: "A-0"}})
		expectWritten(t, "back, without 1", missed, "event: gap\nid: A-1\ndata: {\"last_event_id\":\"A-0\"}\n\nid: A-1\n\nid: A-1000\ndata: 1000\n\n")

		// The same if the node continues in a log that replaces this one.
		next := broker.NewLog("A", 1<<20, time.Hour)
		next.BeginAt(1000)
		engine.replace(next)
		reads(t, next, 2000, "2000")
		const live = "id: A-0\n\nid: A-1\ndata: 1\n\ndata: -\n\ndata: -\n\nid: A-1000\ndata: 1000\n\nid: A-2000\ndata: 2000\n\n"
		expectWritten(t, "stays", stays, live)
	})
}

// A client that has more than its node has read comes from another node. Until the node has
// read as far, the client gets no event that it already has, and no gap.
func TestAheadOfItsNode(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		log := broker.NewLog("A", 1<<20, time.Hour)
		s, engine := nodeSite(t, log)
		reads(t, log, 1, "1")
		_, ahead := s.grant(t, plenty, gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: "A-5"}})
		changed, tp := s.grant(t, plenty, gateway.Grant{Topics: []string{"u"}, Beginning: topics.Beginning{LastEventID: "A-5"}})
		if _, err := changed.Change([]string{"t"}, []string{"u"}); err != nil {
			t.Fatal(err)
		}
		without, later := s.grant(t, plenty, gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: "A-5"}})
		if _, err := without.Change(nil, []string{"t"}); err != nil {
			t.Fatal(err)
		}
		reads(t, log, 2, "2", "-")
		// The log is reopened, as when the node fell behind. It is still the same log.
		next := broker.NewLog("A", 1<<20, time.Hour)
		next.BeginAt(3)
		engine.replace(next)
		if _, err := without.Change([]string{"t"}, nil); err != nil {
			t.Fatal(err)
		}
		reads(t, next, 4, "4", "5", "-", "7")
		const want = "id: A-5\n\ndata: -\n\nid: A-7\ndata: 7\n\n"
		expectWritten(t, "ahead", ahead, want)
		expectWritten(t, "ahead, with other topics", tp, want)
		expectWritten(t, "ahead, without topics for a while", later, want)
		time.Sleep(time.Hour) // fake clock
		expectWritten(t, "ahead, later", ahead, want)
	})
}

// If a node does not read what its client already has within 10 s, the client gets a gap and
// continues from where the node is.
func TestAheadForTooLong(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		log := broker.NewLog("A", 1<<20, time.Hour)
		s, engine := nodeSite(t, log)
		reads(t, log, 1, "1")
		_, ahead := s.grant(t, plenty, gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: "A-18446744073709551615"}})
		_, lost := s.grant(t, plenty, gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: "A-9"}})
		left, _ := s.grant(t, plenty, gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: "A-9"}})
		time.Sleep(10*time.Second - 1) // fake clock
		reads(t, log, 2, "2", "-")
		expectWritten(t, "within 10 s", ahead, "id: A-18446744073709551615\n\n")
		left.Abort(gateway.ClientClosed, 0)
		time.Sleep(time.Nanosecond) // fake clock
		synctest.Wait()
		reads(t, log, 4, "4", "-")
		const gap = "event: gap\nid: A-2\ndata: {\"last_event_id\":\"A-%s\"}\n\nid: A-4\ndata: 4\n\ndata: -\n\n"
		expectWritten(t, "behind 10 s", ahead, "id: A-18446744073709551615\n\n"+strings.ReplaceAll(gap, "%s", "18446744073709551615"))
		expectWritten(t, "behind 10 s", lost, "id: A-9\n\n"+strings.ReplaceAll(gap, "%s", "9"))

		// With another log there is nothing to wait for, so the gap comes at once.
		_, early := s.grant(t, plenty, gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: "A-9"}})
		engine.replace(logOf("B", 0, "x")())
		const early9 = "id: A-9\n\nevent: gap\nid: B-0\ndata: {\"last_event_id\":\"A-9\"}\n\nid: B-1\ndata: x\n\n"
		expectWritten(t, "another log", early, early9)
		time.Sleep(time.Minute) // fake clock
		expectWritten(t, "another log, later", early, early9)
	})
}

// Without a cluster no client can be ahead: there is no other node that it could come from.
func TestAheadAlone(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSite(nil)
		s.run(t)
		_, tp := s.grant(t, plenty, gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: s.topics.Log().Epoch + "-5"}})
		synctest.Wait()
		if got, want := s.epoch(tp.written()), "event: gap\nid: E-0\ndata: {\"last_event_id\":\"E-5\"}\n\nid: E-0\n\n"; got != want {
			t.Errorf("written %q, want %q", got, want)
		}
	})
}
