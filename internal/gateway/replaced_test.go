package gateway_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
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

// replacing is an engine whose log is replaced by others.
type replacing struct {
	mu  sync.Mutex
	log *broker.Log
}

func (s *replacing) Log() *broker.Log {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log
}

func (s *replacing) Append(_ context.Context, p broker.Publication) (broker.Position, error) {
	return s.Log().Append(p)
}

func (s *replacing) Run(context.Context) error { return nil }

func (s *replacing) replace(next *broker.Log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.log
	s.log = next
	before.ReplaceWith(next)
}

// logOf returns a log with events of topic t after an offset. All are stored except "-".
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

// When the log is replaced, each client gets a gap if events are lost for it, and everything
// else once and in order. Slow clients first get what they have yet to get from the old log.
func TestLogReplaced(t *testing.T) {
	const begin = "id: A-0\n\nid: A-1\ndata: 1\n\nid: A-2\ndata: 2\n\ndata: -\n\n"
	gap := func(last, id string) string {
		return "event: gap\nid: " + id + "\ndata: {\"last_event_id\":\"" + last + "\"}\n\n"
	}
	for name, test := range map[string]struct {
		next func() *broker.Log
		want string // after the events of the old log, and before those published then
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
			bubble.Test(t, func(t *testing.T) {
				engine := &replacing{log: logOf("A", 0)()}
				s := siteOn(engine, nil)
				s.run(t)
				var tapes []*tape
				for _, room := range []int{plenty, plenty, plenty, 10, 10} {
					_, tp := s.grant(t, room, gateway.Grant{Topics: []string{"t", "u"}})
					tapes = append(tapes, tp)
				}
				for _, d := range []string{"1", "2", "-"} {
					s.publish(t, d, d != "-", "t")
				}
				engine.replace(test.next())
				synctest.Wait()
				position, receivers := s.publish(t, "live", true, "t")
				if receivers != len(tapes) {
					t.Errorf("%d receivers, want %d", receivers, len(tapes))
				}
				s.publish(t, "-", false, "t")
				synctest.Wait()
				want := begin + test.want + fmt.Sprintf("id: %v\ndata: live\n\ndata: -\n\n", position)
				for i, tp := range tapes {
					for tp.written() != want && len(tp.written()) < 1<<12 {
						tp.takes(50)
						synctest.Wait()
					}
					if got := tp.written(); got != want {
						t.Errorf("client %d has\n%s\nwant\n%s", i, got, want)
					}
				}
				// A client that comes back with an id of the old log gets a gap in the same cases.
				_, back := s.grant(t, plenty, gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: "A-2"}})
				synctest.Wait()
				if got := back.written(); strings.Contains(got, "event: gap") != strings.Contains(test.want, "gap") {
					t.Errorf("a client that comes back has\n%s", got)
				}
			})
		})
	}
}

// sharded returns topics with a number of shards.
func sharded(engine broker.Engine, shared bool, shards int) *topics.Topics {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(shards))
	return topics.New(engine, shared)
}

// gated is a stream whose writes wait for the gate, so that its shard is blocked.
type gated struct {
	*tape

	gate chan struct{}
}

func (g gated) Write(p []byte) (int, gateway.Detail) {
	<-g.gate
	return g.tape.Write(p)
}

// A shard that has yet to switch to the new log accepts clients that have positions in it, from
// another shard or another node. They wait there for the shard, without a gap. A publish waits
// until this shard, too, has delivered its event.
func TestLogReplacedWhileAShardLags(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		engine := &replacing{log: logOf("A", 0)()}
		b := &backend{}
		all := sharded(engine, false, 2)
		s := site{gateway.New(gateway.Config{
			Heartbeat: time.Hour, MaxConnections: 1000, QueueBytes: 1 << 20, BudgetBytes: 1 << 27, Topics: all, Log: slog.New(slog.DiscardHandler),
		}, b), all, engine, b}
		s.run(t)
		on := func(shard int) *gateway.Conn {
			for {
				c := s.connect(t)
				if gateway.ShardOf(c, 2) == shard {
					return c
				}
				c.Abort(gateway.ClientClosed, 0)
			}
		}
		open := func(shard int, lastEventID string) *tape {
			c := on(shard)
			tp := &tape{conn: c, room: plenty}
			if !c.Open(tp, frame.Frame{}, gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: lastEventID}}) {
				t.Fatal("the connection did not open")
			}
			return tp
		}
		published := make(chan int, 10)
		publish := func(data string, store bool) {
			go func() {
				_, n, err := s.topics.Publish(t.Context(), []string{"t"}, sse.Event{Data: data}, store)
				if err != nil {
					t.Error(err)
				}
				published <- n
			}()
			synctest.Wait()
		}

		holdUp := on(0)
		stuck := gated{&tape{conn: holdUp, room: plenty}, make(chan struct{}, 1)}
		stuck.gate <- struct{}{} // for the opening
		if !holdUp.Open(stuck, frame.Frame{}, gateway.Grant{Topics: []string{"t"}}) {
			t.Fatal("the connection did not open")
		}
		early, fast := open(0, ""), open(1, "")
		publish("1", true)
		engine.replace(logOf("B", 0, "x")())
		publish("live", true)
		publish("-", false)

		back, fresh, old := open(0, "B-2"), open(0, ""), open(0, "A-1")
		behind := open(0, "B-0")
		changed := on(0)
		tp := &tape{conn: changed, room: plenty}
		changed.Open(tp, frame.Frame{}, gateway.Grant{})
		if _, err := changed.Change([]string{"t"}, nil); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		select {
		case n := <-published:
			t.Errorf("a publish returned before the blocked shard had delivered its event: %d", n)
		default:
		}
		close(stuck.gate)
		publish("more", true)
		receivers := []int{<-published, <-published, <-published, <-published}
		slices.Sort(receivers) // they returned in any order
		if want := []int{3, 3, 4, 8}; !slices.Equal(receivers, want) {
			t.Errorf("%d receivers, want %d", receivers, want)
		}

		const gap, more = "event: gap\nid: B-%d\ndata: {\"last_event_id\":\"A-1\"}\n\n", "id: B-3\ndata: more\n\n"
		const followed = "id: A-0\n\nid: A-1\ndata: 1\n\nevent: gap\nid: B-0\ndata: {\"last_event_id\":\"A-1\"}\n\nid: B-1\ndata: x\n\nid: B-2\ndata: live\n\ndata: -\n\n" + more
		for name, test := range map[string]struct {
			tape *tape
			want string
		}{
			"held up":          {stuck.tape, followed},
			"early":            {early, followed},
			"on another shard": {fast, followed},
			"back":             {back, "id: B-2\n\n" + more},
			"fresh":            {fresh, "id: B-2\n\n" + more},
			"of the old log":   {old, fmt.Sprintf(gap, 2) + "id: B-2\n\n" + more},
			"behind":           {behind, "id: B-0\n\nid: B-1\ndata: x\n\nid: B-2\ndata: live\n\n" + more},
			"first topics":     {tp, "id: B-2\n\ndata: -\n\n" + more},
		} {
			if got := test.tape.written(); got != test.want {
				t.Errorf("%s: has\n%s\nwant\n%s", name, got, test.want)
			}
		}
	})
}

// A connection that removed all its topics does not keep a log in memory that is replaced
// later, even if its client was ahead of this node.
func TestNoTopicsKeepNoLog(t *testing.T) {
	const size = 8 << 20
	for name, test := range map[string]struct {
		lastEventID string
		wait        time.Duration
	}{
		"anew":                       {"", 0},
		"back":                       {"A-1", 0},
		"ahead of its node":          {"A-1000", 0},
		"ahead, and has given it up": {"A-1000", 11 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				before := heap()
				engine := &replacing{}
				engine.log = broker.NewLog("A", 2*size, time.Hour)
				_, _ = engine.log.Append(broker.Publication{Topics: []string{"t"}, Event: sse.Event{Data: strings.Repeat("x", size)}, Store: true}) // it is open
				s := siteOn(engine, func(cfg *gateway.Config) { cfg.Clustered = true })
				s.gw.SetNumber(1)
				s.run(t)
				c, tp := s.grant(t, plenty, gateway.Grant{Topics: []string{"t", "u"}, Beginning: topics.Beginning{LastEventID: test.lastEventID}})
				if _, err := c.Change(nil, []string{"u", "t"}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(test.wait) // fake clock
				synctest.Wait()
				engine.replace(logOf("A", 1)())
				s.publish(t, "2", true, "t")
				if grown := heap() - before; grown > size/2 {
					t.Errorf("%d bytes are kept of a log of %d", grown, size)
				}
				if _, err := c.Change([]string{"t"}, nil); err != nil {
					t.Fatal(err)
				}
				s.publish(t, "3", true, "t")
				gets := strings.Contains(tp.written(), "data: 3\n")
				if ahead := test.lastEventID == "A-1000" && test.wait == 0; gets == ahead {
					t.Errorf("has %q", tp.written())
				}
				runtime.KeepAlive(c)
			})
		})
	}
}
