package gateway_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"ssegateway/internal/bubble"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/topics"
	"ssegateway/sse"
)

// history publishes events 1 to n, of that size: to topic t, to u, and to both, in turn. It
// returns the numbers of those on topic u.
func (s site) history(t *testing.T, n, size int) (ofU []string) {
	t.Helper()
	for i := range n {
		topics := [][]string{{"t"}, {"u"}, {"t", "u"}}[i%3]
		s.publish(t, numbered(i+1, size), true, topics...)
		if i%3 > 0 {
			ofU = append(ofU, strconv.Itoa(i+1))
		}
	}
	return ofU
}

// numbered returns the data of an event, from which arrived gets the event's number.
func numbered(n, size int) string {
	digits := strconv.Itoa(n)
	return strings.Repeat("0", 4-len(digits)) + digits + strings.Repeat("x", size)
}

// without returns the numbers greater than n.
func without(n int, numbers []string) []string {
	return slices.DeleteFunc(slices.Clone(numbers), func(number string) bool {
		i, _ := strconv.Atoi(number)
		return i <= n
	})
}

// A waiting replay brings no more events of a removed topic, except one of which the client
// already has a part.
func TestRemovedFromReplay(t *testing.T) {
	for name, remove := range map[string][]string{"one topic": {"t"}, "all topics": {"t", "u", "none"}} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				s := newSite(nil)
				s.run(t)
				ofU := s.history(t, 1000, 60)
				c, tp := s.grant(t, 0, gateway.Grant{Topics: []string{"t", "u"}, Beginning: topics.Beginning{LastEventID: s.topics.Log().Epoch + "-0"}})
				tp.takes(len("id: -0\n\n") + len(s.topics.Log().Epoch) + 10) // ends within the first event
				synctest.Wait()
				if strings.Contains(tp.written(), "x") || s.gw.QueuedBytes() < 64*100 {
					t.Fatalf("the client has %q, and %d bytes wait", tp.written(), s.gw.QueuedBytes())
				}
				if _, err := c.Change(nil, remove); err != nil {
					t.Fatal(err)
				}
				s.publish(t, numbered(1001, 60), true, "t")
				s.publish(t, numbered(1002, 60), true, "u")
				tp.takes(plenty)
				synctest.Wait()
				want := []string{"1"}
				if len(remove) == 1 {
					want = append(append(want, ofU...), "1002")
				}
				if got := arrived(tp.written()); !slices.Equal(got, want) {
					t.Errorf("%d arrived, want %d: %q, want %q", len(got), len(want), got, want)
				}
				c.Abort(gateway.ClientClosed, 0)
				s.expectNothingLeft(t)
			})
		})
	}
}

// A topic that is removed and added again brings what is published from then on, although a
// replay that had the topic still waits.
func TestRemovedAndAddedAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSite(nil)
		s.run(t)
		ofU := s.history(t, 100, 60)
		c, tp := s.grant(t, 0, gateway.Grant{Topics: []string{"t", "u"}, Beginning: topics.Beginning{LastEventID: s.topics.Log().Epoch + "-0"}})
		for _, change := range [][2][]string{{nil, {"t"}}, {{"t"}, nil}} {
			if _, err := c.Change(change[0], change[1]); err != nil {
				t.Fatal(err)
			}
		}
		s.publish(t, numbered(101, 60), true, "t")
		tp.takes(plenty)
		synctest.Wait()
		if got, want := arrived(tp.written()), append(ofU, "101"); !slices.Equal(got, want) {
			t.Errorf("%q arrived, want %q", got, want)
		}
	})
}

// A replay continues by itself when all that it took from the log is removed.
func TestRemovedAllThatWaits(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSite(nil)
		s.run(t)
		for n := range 100 {
			s.publish(t, numbered(n+1, 60), true, "t")
		}
		s.publish(t, numbered(101, 60), true, "u")
		c, tp := s.grant(t, 0, gateway.Grant{Topics: []string{"t", "u"}, Beginning: topics.Beginning{LastEventID: s.topics.Log().Epoch + "-0"}})
		tp.takes(len("id: -0\n\n") + len(s.topics.Log().Epoch))
		synctest.Wait()
		if n := s.gw.QueuedBytes(); n < 64*100 {
			t.Fatalf("%d bytes wait", n)
		}
		if _, err := c.Change(nil, []string{"t"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := s.gw.QueuedBytes(); n < 100 || n > 400 {
			t.Errorf("%d bytes wait, want those of one event", n)
		}
		tp.takes(plenty)
		synctest.Wait()
		if got := arrived(tp.written()); !slices.Equal(got, []string{"101"}) {
			t.Errorf("%q arrived", got)
		}
	})
}

// Events that are being written when their topic is removed still arrive. Later ones arrive only
// if they have another topic.
func TestRemovedWhilePumping(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSite(nil)
		s.run(t)
		ofU := s.history(t, 300, 600)
		c := s.connect(t)
		stream := &heldPump{conn: c, work: make(chan struct{}, 1), turn: make(chan struct{}, 2)}
		g := gateway.Grant{Topics: []string{"t", "u"}, Beginning: topics.Beginning{LastEventID: s.topics.Log().Epoch + "-0"}, Events: []sse.Event{{Data: "0999"}}}
		if !c.Open(stream, frame.Frame{}, g) {
			t.Fatal("the connection did not open")
		}
		stream.turn <- struct{}{} // for the opening
		stream.start()
		synctest.Wait() // the pump is writing the first events of the replay
		if _, err := c.Change(nil, []string{"t"}); err != nil {
			t.Fatal(err)
		}
		close(stream.turn)
		synctest.Wait()
		got := arrived(stream.written())[1:]
		held := 0
		for held < len(got) && got[held] == strconv.Itoa(held+1) {
			held++
		}
		if held < 2 || held > 30 || !slices.Equal(got[held:], without(held, ofU)) {
			t.Errorf("%q arrived, of which %d were being written at the removal", got, held)
		}
		c.Abort(gateway.ClientClosed, 0)
		stream.over.Wait()
		s.expectNothingLeft(t)
	})
}

// A gap before removed events stays, since the client would not know of it otherwise.
func TestRemovedBehindGap(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		engine := &replacing{log: logOf("A", 0)()}
		s := siteOn(engine, nil)
		s.run(t)
		c, tp := s.grant(t, 0, gateway.Grant{Topics: []string{"t", "u"}})
		s.publish(t, "1", true, "t")
		engine.replace(logOf("B", 7, "x", "y")())
		synctest.Wait()
		tp.takes(len("id: A-0\n\nid: A-1\ndata: 1\n\n")) // now the gap, x and y are in the queue
		synctest.Wait()
		if _, err := c.Change(nil, []string{"t"}); err != nil {
			t.Fatal(err)
		}
		tp.takes(plenty)
		synctest.Wait()
		const want = "id: A-0\n\nid: A-1\ndata: 1\n\nevent: gap\nid: B-7\ndata: {\"last_event_id\":\"A-1\"}\n\n"
		if got := tp.written(); got != want {
			t.Errorf("has\n%s\nwant\n%s", got, want)
		}
	})
}
