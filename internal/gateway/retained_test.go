package gateway_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/bubble"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/topics"
	"ssegateway/sse"
)

// retainingLog returns a log that retains events and keeps so many bytes.
func retainingLog(epoch string, maxBytes int64) *broker.Log {
	log := broker.NewLog(epoch, maxBytes, time.Hour)
	log.LimitRetained(1 << 20)
	return log
}

// retainingSite returns a site with a log that retains events.
func retainingSite(t *testing.T, maxBytes int64) (site, *replacing) {
	t.Helper()
	engine := &replacing{log: retainingLog("A", maxBytes)}
	s := siteOn(engine, nil)
	s.run(t)
	return s, engine
}

// retain publishes an event that is retained, and waits until it is delivered.
func (s site) retain(t testing.TB, data, key string, names ...string) {
	t.Helper()
	d := s.topics.Expect(0)
	defer d.Forget()
	if _, _, err := d.Publish(t.Context(), broker.Publication{Topics: names, Event: sse.Event{Data: data}, Store: true, Retain: true, Key: key}); err != nil {
		t.Fatal(err)
	}
}

func (s site) remove(t testing.TB, key string, names ...string) {
	t.Helper()
	if _, err := s.topics.Remove(t.Context(), names, key); err != nil {
		t.Fatal(err)
	}
}

// stored returns the bytes of an event of the log A.
func stored(offset int, data string) string {
	return fmt.Sprintf("id: A-%d\ndata: %s\n\n", offset, data)
}

// The head goes out in one write with the first bytes behind it, whatever those are.
func TestHeadWithState(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s, _ := retainingSite(t, 1<<20)
		head := frame.Head([]byte("HTTP/1.1 200 OK\r\n\r\n"))
		s.retain(t, "1", "", "t")
		s.retain(t, "2", "k", "t")
		c := s.connect(t)
		tp := &tape{conn: c, room: plenty, full: true}
		c.Open(tp, head, gateway.Grant{Topics: []string{"t"}})
		synctest.Wait()
		if want := string(head.Wire(false)) + stored(1, "1"); len(tp.writes) == 0 || tp.writes[0] != want {
			t.Errorf("the writes are %q, the first should be %q", tp.writes, want)
		}
		if got, want := tp.written(), string(head.Wire(false))+stored(1, "1")+stored(2, "2")+"id: A-2\n\n"; got != want {
			t.Errorf("written %q, want %q", got, want)
		}
	})
}

// While a slow client reads what is retained, events are published, replaced, removed and trimmed. It
// gets each once, and in the end has the last of each key that is left.
func TestStateChangesMeanwhile(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s, _ := retainingSite(t, 4000)
		filler := strings.Repeat("x", 300)
		for i := range 200 { // more than what is taken at a time
			s.retain(t, filler, fmt.Sprint(i), "t", "u")
		}
		_, tp := s.grant(t, 10, gateway.Grant{Topics: []string{"t", "u"}})
		synctest.Wait()
		s.retain(t, "replaced", "199", "t", "u") // 201
		s.remove(t, "198", "t", "u")             // 202
		s.retain(t, "half", "197", "t")          // 203
		for range 20 {                           // trims all of the above, up to 223
			s.publish(t, filler, true, "other")
		}
		tp.takes(plenty)
		want := ""
		for i := range 198 {
			want += stored(i+1, filler)
		}
		expectWritten(t, "a slow client", tp, want+"id: A-200\n\n"+stored(201, "replaced")+stored(203, "half"))
	})
}

// A client whose topics are all removed while it has to get what they retain still gets the id.
func TestStateWithoutTopics(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s, _ := retainingSite(t, 1<<20)
		filler := strings.Repeat("x", 1<<10)
		for i := range 100 {
			s.retain(t, filler, fmt.Sprint(i), "t", "v")
		}
		grant := gateway.Grant{Topics: []string{"t", "u"}}
		none, without := s.grant(t, 100, grant)
		other, with := s.grant(t, 100, grant)
		synctest.Wait()
		if _, err := none.Change(nil, []string{"t", "u"}); err != nil {
			t.Fatal(err)
		}
		if _, err := other.Change([]string{"v"}, []string{"t"}); err != nil {
			t.Fatal(err)
		}
		s.publish(t, "live", true, "u", "v")
		without.takes(plenty)
		with.takes(plenty)
		expectWritten(t, "without topics", without, stored(1, filler)+"id: A-100\n\n")
		expectWritten(t, "with others", with, stored(1, filler)+"id: A-100\n\n"+stored(101, "live"))
	})
}

// In the middle of a stream a gap brings what is retained, and has no id then: when the log is replaced,
// when it is trimmed under a replay, and when a client has waited in vain for what it has.
func TestGapWithState(t *testing.T) {
	t.Run("another log", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			s, engine := retainingSite(t, 1<<20)
			s.retain(t, "a", "", "t")
			_, reads := s.grant(t, plenty, gateway.Grant{Topics: []string{"t"}})
			_, slow := s.grant(t, 10, gateway.Grant{Topics: []string{"t"}})
			_, other := s.grant(t, plenty, gateway.Grant{Topics: []string{"u"}})
			synctest.Wait()
			next := retainingLog("B", 1<<20)
			for _, data := range []string{"b", "c"} {
				_, _ = next.Append(broker.Publication{Topics: []string{"t"}, Event: sse.Event{Data: data}, Store: true, Retain: true, Key: data}) // it is open
				next.BeginAt(1)                                                                                                                   // as if the first were trimmed
			}
			engine.replace(next)
			synctest.Wait()
			s.publish(t, "live", true, "t", "u")
			slow.takes(plenty)
			const gap = "event: gap\ndata: {\"last_event_id\":\"A-1\"}\n\nid: B-1\ndata: b\n\nid: B-1\n\nid: B-2\ndata: c\n\nid: B-3\ndata: live\n\n"
			expectWritten(t, "one that reads", reads, stored(1, "a")+"id: A-1\n\n"+gap)
			expectWritten(t, "a slow one", slow, stored(1, "a")+"id: A-1\n\n"+gap)
			expectWritten(t, "one without any", other, "id: A-1\n\nevent: gap\nid: B-1\ndata: {\"last_event_id\":\"A-1\"}\n\nid: B-3\ndata: live\n\n")
		})
	})
	t.Run("trimmed", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			s, _ := retainingSite(t, 60_000)
			s.retain(t, "kept", "", "t")
			for i := range 100 { // up to 101; more than what is taken at a time
				s.publish(t, fmt.Sprint(i), true, "t")
			}
			_, tp := s.grant(t, 10, gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: "A-1"}})
			synctest.Wait()
			for range 60 {
				s.publish(t, strings.Repeat("x", 1<<10), true, "other")
			}
			tp.takes(plenty)
			synctest.Wait()
			s.publish(t, "live", true, "t") // 162
			want := "id: A-1\n\n"
			for i := range 64 {
				want += stored(i+2, fmt.Sprint(i))
			}
			want += "event: gap\ndata: {\"last_event_id\":\"A-65\"}\n\n" + stored(1, "kept") + "id: A-101\n\n" + stored(162, "live")
			expectWritten(t, "a slow client", tp, want)
		})
	})
	t.Run("in vain", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			log := retainingLog("A", 1<<20)
			s, _ := nodeSite(t, log)
			s.retain(t, "1", "", "t")
			ahead := gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: "A-9", Rewind: 5}}
			_, lost := s.grant(t, plenty, ahead)
			ahead.Topics = []string{"u"}
			_, other := s.grant(t, plenty, ahead)
			reads(t, log, 2, "2")
			time.Sleep(11 * time.Second) // fake clock
			reads(t, log, 3, "3")
			const gap = "id: A-9\n\nevent: gap\n%sdata: {\"last_event_id\":\"A-9\"}\n\n"
			expectWritten(t, "with one retained", lost, fmt.Sprintf(gap, "")+stored(1, "1")+"id: A-2\n\n"+stored(3, "3"))
			expectWritten(t, "with none", other, fmt.Sprintf(gap, "id: A-2\n"))
		})
	})
}
