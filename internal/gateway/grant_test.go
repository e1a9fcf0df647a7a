package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/bubble"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/outbox"
	"ssegateway/internal/topics"
	"ssegateway/sse"
)

// A stream starts with, in this order: the head, retry, gap, id, the granted events, missed
// events, buffered events, live events.
func TestOrderAtTheStart(t *testing.T) {
	at := func(offset uint64) broker.Position { return broker.Position{Epoch: "E", Offset: offset} }
	for _, test := range []struct {
		name  string
		grant gateway.Grant
		want  string // with E for the epoch
	}{
		{"nothing", gateway.Grant{}, "HEAD|data: buffered|data: direct|"},
		{"retry", gateway.Grant{Retry: sse.RetryMillis(7)}, "HEAD|retry: 7|data: buffered|data: direct|"},
		{"a retry of 0", gateway.Grant{Retry: sse.RetryMillis(0)}, "HEAD|retry: 0|data: buffered|data: direct|"},
		{
			"events",
			gateway.Grant{Events: []sse.Event{{Data: "one"}, {Data: "two"}}},
			"HEAD|data: one|data: two|data: buffered|data: direct|",
		},
		{"topics", gateway.Grant{Topics: []string{"t"}}, "HEAD|id: E-3|data: buffered|id: E-4;data: live|data: direct|"},
		{"an id without topics", gateway.Grant{Beginning: topics.Beginning{LastEventID: "x"}}, "HEAD|data: buffered|data: direct|"},
		{
			"a topic twice",
			gateway.Grant{Topics: []string{"t", "t"}},
			"HEAD|id: E-3|data: buffered|id: E-4;data: live|data: direct|",
		},
		{
			"everything",
			gateway.Grant{
				Topics: []string{"t", "u"}, Subject: "s", Events: []sse.Event{{Data: "first"}}, Retry: sse.RetryMillis(1),
				Beginning: topics.Beginning{LastEventID: "E-1"}, Overflow: outbox.Latest, MaxAge: time.Hour,
			},
			"HEAD|retry: 1;id: E-1|data: first|id: E-2;data: 2|id: E-3;data: 3|data: buffered|id: E-4;data: live|data: direct|",
		},
		{
			"one of the topics",
			gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: "E-0"}},
			"HEAD|id: E-0|id: E-1;data: 1|id: E-3;data: 3|data: buffered|id: E-4;data: live|data: direct|",
		},
		{
			"nothing missed",
			gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: "E-3"}},
			"HEAD|id: E-3|data: buffered|id: E-4;data: live|data: direct|",
		},
		{
			"another log",
			gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: "F-1"}, Events: []sse.Event{{Data: "first"}}, Retry: sse.RetryMillis(1)},
			`HEAD|event: gap;id: E-3;data: {"last_event_id":"F-1"}|retry: 1;id: E-3|data: first|data: buffered|id: E-4;data: live|data: direct|`,
		},
		{
			"the future",
			gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: "E-9"}},
			`HEAD|event: gap;id: E-3;data: {"last_event_id":"E-9"}|id: E-3|data: buffered|id: E-4;data: live|data: direct|`,
		},
		{
			"the position when the backend was asked",
			gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{Asked: at(1)}, Events: []sse.Event{{Data: "first"}}},
			"HEAD|id: E-1|data: first|id: E-3;data: 3|data: buffered|id: E-4;data: live|data: direct|",
		},
		{
			"a position of the backend",
			gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{Position: "E-0", Asked: at(1)}},
			"HEAD|id: E-0|id: E-1;data: 1|id: E-3;data: 3|data: buffered|id: E-4;data: live|data: direct|",
		},
		{
			"the client's id before the backend's position",
			gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: "E-2", Position: "E-0", Asked: at(0)}},
			"HEAD|id: E-2|id: E-3;data: 3|data: buffered|id: E-4;data: live|data: direct|",
		},
		{
			"a position of another log",
			gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{Position: "F-1", Asked: at(2)}},
			`HEAD|event: gap;id: E-2;data: {"last_event_id":"F-1"}|id: E-2|id: E-3;data: 3|data: buffered|id: E-4;data: live|data: direct|`,
		},
		{
			"asked before the log was replaced",
			gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{Asked: broker.Position{Epoch: "F", Offset: 1}}},
			`HEAD|event: gap;id: E-3;data: {"last_event_id":"F-1"}|id: E-3|data: buffered|id: E-4;data: live|data: direct|`,
		},
		{
			"garbage, and then what came since the backend was asked",
			gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: "x", Asked: at(2)}},
			`HEAD|event: gap;id: E-2;data: {"last_event_id":"x"}|id: E-2|id: E-3;data: 3|data: buffered|id: E-4;data: live|data: direct|`,
		},
		{
			"garbage",
			gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: "\"\x7f\xff\u2028"}},
			"HEAD|event: gap;id: E-3;data: {\"last_event_id\":\"\\\"\x7f\ufffd\u2028\"}|id: E-3|data: buffered|id: E-4;data: live|data: direct|",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				s := newSite(nil)
				s.run(t)
				s.publish(t, "1", true, "t")
				s.publish(t, "2", true, "u")
				s.publish(t, "3", true, "t")
				c := s.connect(t)
				c.Send(frame.Event(sse.Event{Data: "buffered"}), false, nil)
				epoch := s.topics.Log().Epoch
				for _, id := range []*string{&test.grant.LastEventID, &test.grant.Position, &test.grant.Asked.Epoch} {
					*id = regexp.MustCompile(`^E\b`).ReplaceAllString(*id, epoch)
				}
				tp := &tape{conn: c, room: plenty}
				if !c.Open(tp, frame.Head([]byte("HEAD\n\n")), test.grant) {
					t.Fatal("the connection did not open")
				}
				s.publish(t, "live", true, "t")
				c.Send(frame.Event(sse.Event{Data: "direct"}), false, nil)
				synctest.Wait()
				got := strings.ReplaceAll(strings.ReplaceAll(s.epoch(tp.written()), "\n\n", "|"), "\n", ";")
				if got != test.want {
					t.Errorf("written %q, want %q", got, test.want)
				}
				c.Abort(gateway.ClientClosed, 0)
				s.expectNothingLeft(t)
			})
		})
	}
}

// If the log has lost some of what a client missed, the client gets a gap, and then what the
// log still has. The gap's id is the position between the two.
func TestGapOfTrimmedLog(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := siteOn(broker.NewMemory(64<<20, time.Minute), nil)
		s.run(t)
		ctx, cancel := context.WithCancel(context.Background())
		over := make(chan error)
		go func() { over <- s.engine.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-over; err != nil {
				t.Error(err)
			}
		}()
		for n := range 5 {
			s.publish(t, strconv.Itoa(n+1), true, "t")
			time.Sleep(15 * time.Second) // fake clock
		}
		synctest.Wait()
		epoch := s.topics.Log().Epoch
		_, trimmed := s.grant(t, plenty, gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: epoch + "-0"}})
		_, whole := s.grant(t, plenty, gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: epoch + "-2"}})
		synctest.Wait()
		if got, want := s.epoch(trimmed.written()), "event: gap\nid: E-2\ndata: {\"last_event_id\":\"E-0\"}\n\nid: E-2\n\nid: E-3\ndata: 3\n\nid: E-4\ndata: 4\n\nid: E-5\ndata: 5\n\n"; got != want {
			t.Errorf("written %q, want %q", got, want)
		}
		if got, want := s.epoch(whole.written()), "id: E-2\n\nid: E-3\ndata: 3\n\nid: E-4\ndata: 4\n\nid: E-5\ndata: 5\n\n"; got != want {
			t.Errorf("written %q, want %q", got, want)
		}
		// All events are too old by now: a client that has the last one misses nothing.
		time.Sleep(2 * time.Minute) // fake clock
		_, first := s.grant(t, plenty, gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: epoch + "-4"}})
		_, last := s.grant(t, plenty, gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: epoch + "-5"}})
		synctest.Wait()
		if got, want := s.epoch(first.written()), "event: gap\nid: E-5\ndata: {\"last_event_id\":\"E-4\"}\n\nid: E-5\n\n"; got != want {
			t.Errorf("written %q, want %q", got, want)
		}
		if got := s.epoch(last.written()); got != "id: E-5\n\n" {
			t.Errorf("written %q", got)
		}
	})
}

func TestMaxAge(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSite(nil)
		s.run(t)
		const age = 100 * time.Second
		var tapes []*tape
		start := time.Now()
		for range 200 {
			_, tp := s.grant(t, plenty, gateway.Grant{MaxAge: age})
			tapes = append(tapes, tp)
		}
		_, young := s.grant(t, plenty, gateway.Grant{})
		gone, left := s.grant(t, plenty, gateway.Grant{MaxAge: age})
		gone.Abort(gateway.ClientClosed, 0)
		time.Sleep(2 * age) // fake clock
		synctest.Wait()
		ages := map[time.Duration]bool{}
		for _, tp := range tapes {
			old := tp.closedAt.Sub(start)
			if closed, aborted := tp.state(); !closed || aborted || old < age*9/10 || old > age {
				t.Errorf("closed %v, aborted %v, after %v", closed, aborted, old)
			}
			ages[old.Truncate(time.Second)] = true
		}
		if len(ages) < 8 {
			t.Errorf("the streams ended in %d different seconds, of 10", len(ages))
		}
		if closed, _ := young.state(); closed {
			t.Error("a stream without a maximum age was closed")
		}
		ends := s.ends()
		if ends[0] != "client_closed/" || !left.closedAt.Equal(start) || len(ends) != 201 {
			t.Errorf("%d ends, the first is %s", len(ends), ends[0])
		}
		if ends = slices.Compact(ends[1:]); len(ends) != 1 || ends[0] != "server_closed/max_age" {
			t.Errorf("ends %q", ends)
		}
	})
}

// A connection that lags is closed in order at its maximum age. If its client takes nothing,
// it is cut at the latest when it would be as a stalled one.
func TestMaxAgeOfOneThatLags(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSite(nil)
		s.run(t)
		c, tp := s.grant(t, 10, gateway.Grant{MaxAge: 5 * time.Second})
		c.Send(eventOf(t, 100), false, nil)
		time.Sleep(5 * time.Second) // fake clock
		if c.State() != gateway.Closed || tp.closed {
			t.Fatalf("state %d, closed %v", c.State(), tp.closed)
		}
		tp.takes(plenty)
		if closed, aborted := tp.state(); !closed || aborted || len(tp.written()) != 100 {
			t.Errorf("closed %v, aborted %v, %d bytes", closed, aborted, len(tp.written()))
		}
		s.expectEnds(t, "server_closed/max_age")
		s.expectNothingLeft(t)
	})
}

func TestGone(t *testing.T) {
	s := newSite(nil)
	c, _ := s.open(t, plenty)
	before, again := c.Gone(), c.Gone()
	select {
	case <-before:
		t.Fatal("Gone is closed while the connection is open")
	default:
	}
	c.Abort(gateway.ClientClosed, 0)
	<-before
	<-again
	<-c.Gone()
	other, _ := s.open(t, 0)
	other.Send(eventOf(t, 100), false, nil)
	other.Send(frame.Frame{}, true, nil)
	<-other.Gone() // first called after the close, while the queue is still being written
	pending := s.connect(t)
	wait := pending.Gone()
	pending.Abort(gateway.ClientClosed, 0)
	<-wait
}

func TestChange(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSite(nil)
		s.run(t)
		c := s.connect(t)
		if _, err := c.Change([]string{"a"}, nil); !errors.Is(err, gateway.ErrNotOpen) {
			t.Error("a pending connection's topics were changed")
		}
		tp := &tape{conn: c, room: plenty}
		c.Open(tp, frame.Frame{}, gateway.Grant{})
		s.publish(t, "1", true, "a")
		for _, step := range []struct {
			add, remove []string
			want        string
		}{
			{nil, nil, ""},
			{[]string{"b", "a", "b"}, nil, "a b"},
			{[]string{"a"}, []string{"x"}, "a b"},
			{[]string{"c"}, []string{"c", "c"}, "a b"},
			{[]string{"c", "d"}, []string{"a"}, "b c d"},
			{nil, []string{"b", "c", "d"}, ""},
			{[]string{"a", "b", "c"}, []string{"b"}, "a c"},
		} {
			got, err := c.Change(step.add, step.remove)
			if err != nil || strings.Join(got, " ") != step.want {
				t.Errorf("+%q -%q: %q, %v, want %s", step.add, step.remove, got, err, step.want)
			}
			if info := c.Info(); !slices.Equal(info.Topics, got) {
				t.Errorf("Info has the topics %q, want %q", info.Topics, got)
			}
		}
		if _, n := s.publish(t, "2", true, "a", "c"); n != 1 {
			t.Errorf("%d receivers", n)
		}
		if _, n := s.publish(t, "3", true, "b"); n != 0 {
			t.Errorf("%d receivers", n)
		}
		// The client gets an id to come back with once, with its first topics.
		if got := s.epoch(tp.written()); got != "id: E-1\n\nid: E-2\ndata: 2\n\n" {
			t.Errorf("written %q", got)
		}
		c.Abort(gateway.ClientClosed, 0)
		if _, err := c.Change([]string{"a"}, nil); !errors.Is(err, gateway.ErrNotOpen) {
			t.Error("a closed connection's topics were changed")
		}
		if _, n := s.publish(t, "4", true, "a"); n != 0 {
			t.Errorf("%d receivers", n)
		}
		s.expectNothingLeft(t)
	})
}

// The number of a connection's topics is bounded, and a change that would exceed the bound
// changes nothing.
func TestMaxTopics(t *testing.T) {
	s := newSite(func(cfg *gateway.Config) { cfg.MaxTopics = 3 })
	c, _ := s.grant(t, plenty, gateway.Grant{})
	for _, step := range []struct {
		add, remove string
		tooMany     bool
		want        string
	}{
		{"a b c d", "", true, ""},
		{"a b b a", "", false, "a b"},
		{"c d", "", true, "a b"},
		{"c a", "", false, "a b c"},
		{"d", "x", true, "a b c"},
		{"d", "a", false, "b c d"},
		{"e", "e", false, "b c d"},
		{"e f g", "b c d", false, "e f g"},
		{"", "e f g", false, ""},
	} {
		_, err := c.Change(strings.Fields(step.add), strings.Fields(step.remove))
		if errors.Is(err, topics.ErrTooManyTopics) != step.tooMany || err != nil && !step.tooMany {
			t.Errorf("+%s -%s: %v", step.add, step.remove, err)
		}
		if got := strings.Join(c.Info().Topics, " "); got != step.want {
			t.Errorf("+%s -%s: %s, want %s", step.add, step.remove, got, step.want)
		}
	}
	if n := newSite(nil).gw.MaxTopics(); n != gateway.DefaultMaxTopics {
		t.Errorf("MaxTopics returned %d by default", n)
	}
}

// Receivers are counted over all shards, and each counts once.
func TestReceivers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSite(nil)
		s.run(t)
		for n := range 100 {
			s.grant(t, n%2*plenty, gateway.Grant{Topics: []string{"all", "t" + strconv.Itoa(n%10)}})
		}
		for topics, want := range map[string]int{"all": 100, "t3": 10, "t3 t4": 20, "all t3": 100, "t3 t3": 10, "none": 0, "none t1": 10} {
			if _, n := s.publish(t, "x", true, strings.Fields(topics)...); n != want {
				t.Errorf("%s: %d receivers, want %d", topics, n, want)
			}
		}
		if n := s.gw.CloseAll(gateway.Filter{Topic: "t3"}); n != 10 {
			t.Errorf("%d closed, of 10", n)
		}
		if _, n := s.publish(t, "x", false, "all"); n != 90 {
			t.Errorf("%d receivers, of 90", n)
		}
		if n := s.gw.CloseAll(gateway.Filter{}); n != 90 {
			t.Errorf("%d closed, of 90", n)
		}
	})
}

func TestList(t *testing.T) {
	s := newSite(nil)
	tokens := map[gateway.Token]int{}
	for n := range 60 {
		c, _ := s.grant(t, 0, gateway.Grant{Topics: []string{"t" + strconv.Itoa(n%3)}, Subject: "s" + strconv.Itoa(n%2)})
		tokens[c.Token()] = n
	}
	waiting := s.connect(t)
	closing, _ := s.grant(t, 0, gateway.Grant{Subject: "s1"})
	closing.Send(eventOf(t, 100), true, nil) // closed, but still writes its queue
	for _, test := range []struct {
		filter gateway.Filter
		limit  int
		want   int
	}{
		{gateway.Filter{}, 7, 61},
		{gateway.Filter{}, 61, 61},
		{gateway.Filter{}, 1000, 61},
		{gateway.Filter{Topic: "t1"}, 3, 20},
		{gateway.Filter{Subject: "s1"}, 4, 30},
		{gateway.Filter{Topic: "t2", Subject: "s0"}, 9, 10},
		{gateway.Filter{Topic: "none"}, 9, 0},
		{gateway.Filter{}, 0, 0},
	} {
		t.Run(fmt.Sprintf("%+v by %d", test.filter, test.limit), func(t *testing.T) {
			var after gateway.Token
			seen := 0
			for {
				page := s.gw.List(test.filter, after, test.limit)
				if len(page) > test.limit {
					t.Fatalf("a page has %d connections, the limit is %d", len(page), test.limit)
				}
				for _, c := range page {
					i := c.Info()
					if slices.Compare(i.Token[:], after[:]) <= 0 {
						t.Errorf("%v is listed after %v", i.Token, after)
					}
					after = i.Token
					seen++
					n, granted := tokens[i.Token]
					if i.Token == waiting.Token() {
						if i.State != gateway.Pending || i.Subject != "" || len(i.Topics) > 0 {
							t.Errorf("the pending connection: %+v", i)
						}
					} else if !granted || i.State != gateway.Open || i.Path != "/stream" || i.Subject != "s"+strconv.Itoa(n%2) || !slices.Equal(i.Topics, []string{"t" + strconv.Itoa(n%3)}) {
						t.Errorf("connection %d: %+v", n, i)
					}
				}
				if len(page) < test.limit || test.limit == 0 {
					break
				}
			}
			if seen != test.want {
				t.Errorf("%d listed, want %d", seen, test.want)
			}
		})
	}
}

func TestInfo(t *testing.T) {
	s := newSite(nil)
	before := time.Now().Add(-time.Second)
	c, tp := s.grant(t, 30, gateway.Grant{Subject: "s", Overflow: outbox.DropOldest})
	c.Send(eventOf(t, 20), false, nil)
	c.Send(eventOf(t, 100), false, nil)
	c.Send(eventOf(t, 100), false, nil)
	i := c.Info()
	if i.Token != c.Token() || i.State != gateway.Open || i.Subject != "s" || i.Overflow != outbox.DropOldest || i.Drops != 0 ||
		i.Since.Before(before.Truncate(time.Second)) || i.Since.After(time.Now()) {
		t.Errorf("at first: %+v", i)
	}
	if i.Events != 1 || i.Bytes != uint64(len(sse.Heartbeat)+30) || i.Queued < 200 || i.Queued != s.gw.QueuedBytes() {
		t.Errorf("after 30 bytes: %+v", i)
	}
	tp.takes(plenty)
	if i := c.Info(); i.Events != 3 || i.Bytes != uint64(len(sse.Heartbeat)+220) || i.Queued != 0 {
		t.Errorf("after all: %+v", i)
	}
}

func TestCloseAll(t *testing.T) {
	s := newSite(nil)
	for n := range 30 {
		s.grant(t, plenty, gateway.Grant{Topics: []string{"t" + strconv.Itoa(n%3)}, Subject: "s" + strconv.Itoa(n%2)})
	}
	pending := s.connect(t)
	closing, _ := s.grant(t, 0, gateway.Grant{Subject: "s1"})
	closing.Send(eventOf(t, 100), true, nil)
	for _, test := range []struct {
		filter gateway.Filter
		want   int
	}{
		{gateway.Filter{Topic: "none"}, 0},
		{gateway.Filter{Topic: "t0", Subject: "s0"}, 5},
		{gateway.Filter{Topic: "t0"}, 5},
		{gateway.Filter{Subject: "s1"}, 10},
		{gateway.Filter{Subject: "s1"}, 0},
		{gateway.Filter{}, 11},
	} {
		if n := s.gw.CloseAll(test.filter); n != test.want {
			t.Errorf("%+v: %d closed, want %d", test.filter, n, test.want)
		}
	}
	tp := &tape{conn: pending, room: plenty}
	if !pending.Open(tp, frame.Frame{}, gateway.Grant{Topics: []string{"t"}, MaxAge: time.Hour}) || !tp.closed {
		t.Error("a buffered close was lost")
	}
	closing.Abort(gateway.Error, gateway.Stalled)
	s.expectNothingLeft(t)
}

// What was granted is undone even if the stream fails at its very opening.
func TestGrantOfBrokenStream(t *testing.T) {
	s := newSite(nil)
	c := s.connect(t)
	c.Open(&tape{conn: c, fault: gateway.WriteFailed}, frame.Frame{}, gateway.Grant{Topics: []string{"t"}, MaxAge: time.Hour, Beginning: topics.Beginning{LastEventID: "x"}})
	s.expectEnds(t, "error/write_failed")
	s.expectNothingLeft(t)
	late := s.connect(t)
	late.Abort(gateway.ClientClosed, 0)
	if late.Open(&tape{conn: late}, frame.Frame{}, gateway.Grant{Topics: []string{"t"}}) {
		t.Error("a connection whose client left was opened")
	}
	s.expectNothingLeft(t)
}

// Publish returns when its context ends, and still reports the event's position.
func TestPublishGivenUp(t *testing.T) {
	s := newSite(nil) // not running
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p, n, err := s.topics.Publish(ctx, []string{"t"}, sse.Event{Data: "x"}, true)
	if err != nil || n != 0 || p.Offset != 1 {
		t.Errorf("Publish returned %v, %d receivers, %v", p, n, err)
	}
	s.engine.Log().Close()
	if _, _, err := s.topics.Publish(t.Context(), []string{"t"}, sse.Event{Data: "x"}, true); err == nil {
		t.Error("publishing to a closed log succeeded")
	}
	s.expectNothingLeft(t)
}

// headHook is a stream that calls back when the head is written.
type headHook struct {
	*tape
	written func()
}

func (h *headHook) Write(p []byte) (int, gateway.Detail) {
	if h.written != nil {
		h.written()
		h.written = nil
	}
	return h.tape.Write(p)
}

// A client that has seen the head misses nothing: it has its topics by then.
func TestJoinedBeforeTheHead(t *testing.T) {
	for range 100 { // the scheduler decides whether the shard delivers at that moment
		bubble.Test(t, func(t *testing.T) {
			s := newSite(nil)
			s.run(t)
			c := s.connect(t)
			tp := &tape{conn: c, room: plenty}
			hook := &headHook{tape: tp, written: func() {
				published := broker.Publication{Topics: []string{"t"}, Event: sse.Event{Data: "at the head"}, Store: true}
				if _, err := s.engine.Append(t.Context(), published); err != nil {
					t.Error(err)
				}
				runtime.Gosched()
			}}
			c.Open(hook, frame.Head([]byte("HEAD")), gateway.Grant{Topics: []string{"t"}})
			synctest.Wait()
			if wire := tp.written(); !strings.Contains(wire, "data: at the head\n") {
				t.Errorf("the client received %q", wire)
			}
		})
	}
}
