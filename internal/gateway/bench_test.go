package gateway_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"testing"

	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/outbox"
	"ssegateway/sse"
)

// openMany opens n streams that take everything.
func openMany(t testing.TB, s site, n int) []*gateway.Conn {
	t.Helper()
	conns, _ := s.sinks(t, n, gateway.Grant{})
	return conns
}

// Frequent operations allocate nothing.
func TestAllocations(t *testing.T) {
	s := newSite(nil)
	conns := openMany(t, s, 100)
	f := eventOf(t, 256)
	done := make(chan error, 1)
	for _, test := range []struct {
		name string
		do   func()
	}{
		{"a send to each of many streams", func() {
			for _, c := range conns {
				c.Send(f, false, nil)
			}
		}},
		{"a send that waits", func() {
			conns[0].Send(f, false, done)
			if err := <-done; err != nil {
				t.Error(err)
			}
		}},
		{"a look-up", func() { s.gw.Find(conns[0].Token()) }},
		{"a state", func() { conns[0].State() }},
	} {
		if n := testing.AllocsPerRun(1000, test.do); n > 0 {
			t.Errorf("%s: %v allocations", test.name, n)
		}
	}
}

// Other operations allocate at most a known number of times.
func TestKnownAllocations(t *testing.T) {
	s := newSite(nil)
	conns := openMany(t, s, 1000)
	full, tp := s.open(t, 0)
	tp.forgetful = true
	f := eventOf(t, 256)
	for _, test := range []struct {
		name string
		most float64
		do   func()
	}{
		// The connection, its token's random bytes, and three for the client's context.
		{"a connection without a stream", 5, func() {
			s.connect(t).Abort(gateway.ClientClosed, 0)
			s.notices, s.times = s.notices[:0], s.times[:0]
		}},
		// The queue, its items, its two places in the backlog.
		{"a send that is queued", 4, func() {
			full.Send(f, false, nil)
			tp.takes(f.Size())
		}},
		// The growing list of a slot's streams.
		{"a heartbeat of each of 1,000", 4, s.gw.Turn},
	} {
		if n := testing.AllocsPerRun(1000, test.do); n > test.most {
			t.Errorf("%s: %v allocations", test.name, n)
		}
	}
	runtime.KeepAlive(conns)
}

// A connection has the size of two cache lines, and the allocator aligns objects of that size
// to cache lines. A send touches only the first.
func TestConnSize(t *testing.T) {
	if gateway.ConnBytes > 128 || gateway.ConnHotBytes > 64 {
		t.Errorf("a connection has %d bytes, of which a send touches %d", gateway.ConnBytes, gateway.ConnHotBytes)
	}
}

// BenchmarkSend sends an encoded event to one open stream of many.
func BenchmarkSend(b *testing.B) {
	conns := openMany(b, newSite(nil), 10000)
	f := eventOf(b, 256)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := rand.IntN(len(conns)); pb.Next(); i = (i + 1) % len(conns) {
			conns[i].Send(f, false, nil)
		}
	})
}

// BenchmarkSendQueued sends an event to a full stream, which then takes it.
func BenchmarkSendQueued(b *testing.B) {
	s := newSite(nil)
	c, tp := s.open(b, 0)
	f := eventOf(b, 256)
	b.ReportAllocs()
	for b.Loop() {
		c.Send(f, false, nil)
		tp.wire, tp.times = tp.wire[:0], tp.times[:0]
		tp.takes(256)
	}
}

// BenchmarkOverflow sends an event of 10 bytes to a client whose queue is full of such events.
func BenchmarkOverflow(b *testing.B) {
	for _, test := range []struct {
		overflow outbox.Overflow
		names    int
	}{{outbox.DropOldest, 1}, {outbox.Latest, 1}, {outbox.Latest, 100}, {outbox.Latest, 20000}} {
		b.Run(fmt.Sprintf("%v of %d names", test.overflow, test.names), func(b *testing.B) {
			frames := make([]frame.Frame, 20000)
			for i := range frames {
				e := sse.Event{Data: "xx"}
				if test.names > 1 {
					e.Name, _ = sse.NewName(strconv.Itoa(i % test.names))
				}
				frames[i] = frame.Event(e)
			}
			c, _ := newSite(nil).grant(b, 0, gateway.Grant{Overflow: test.overflow})
			for _, f := range frames {
				c.Send(f, false, nil)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i = (i + 1) % len(frames) {
				c.Send(frames[i], false, nil)
			}
		})
	}
}

// BenchmarkRegister is the life of a connection without a stream: it is registered, the
// backend is asked, the client leaves, and the backend is notified.
func BenchmarkRegister(b *testing.B) {
	s := newSite(nil)
	openMany(b, s, 10000)
	b.ReportAllocs()
	for b.Loop() {
		s.connect(b).Abort(gateway.ClientClosed, 0)
		s.notices, s.times = s.notices[:0], s.times[:0]
	}
}

// BenchmarkFind looks up one connection of many by its token.
func BenchmarkFind(b *testing.B) {
	s := newSite(nil)
	conns := openMany(b, s, 20000)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := rand.IntN(len(conns)); pb.Next(); i = (i + 1) % len(conns) {
			if s.gw.Find(conns[i].Token()) == nil {
				b.Error("not found")
				return
			}
		}
	})
}

// BenchmarkList lists a page of 100 of 20,000 connections.
func BenchmarkList(b *testing.B) {
	s := newSite(nil)
	openMany(b, s, 20000)
	b.ReportAllocs()
	for b.Loop() {
		if n := len(s.gw.List(gateway.Filter{}, gateway.Token{}, 100)); n != 100 {
			b.Fatalf("%d on the page", n)
		}
	}
}

// BenchmarkSelect selects from 100,000 connections: two of a subject, 100 in a room, and one
// topic that all have. SELECT_CONNECTIONS sets another number of connections.
func BenchmarkSelect(b *testing.B) {
	n := 100_000
	if more, err := strconv.Atoi(os.Getenv("SELECT_CONNECTIONS")); err == nil {
		n = more
	}
	s := newSite(func(cfg *gateway.Config) { cfg.MaxConnections = n })
	for i := range n {
		c := s.connect(b)
		if !c.Open(&sink{}, frame.Frame{}, gateway.Grant{Subject: "user." + strconv.Itoa(i/2), Topics: []string{"all", "room." + strconv.Itoa(i/100)}}) {
			b.Fatal("the connection did not open")
		}
	}
	list := func(f gateway.Filter) func(b *testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if n := len(s.gw.List(f, gateway.Token{}, 100)); n == 0 {
					b.Fatal("an empty page")
				}
			}
		}
	}
	b.Run("list a room", list(gateway.Filter{Topic: "room.7"}))
	b.Run("list a subject", list(gateway.Filter{Subject: "user.7"}))
	b.Run("list a topic of all", list(gateway.Filter{Topic: "all"}))
	b.Run("list all", list(gateway.Filter{}))
	next := 10
	b.Run("close a subject", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if closed := s.gw.CloseAll(gateway.Filter{Subject: "user." + strconv.Itoa(next)}); closed != 2 && next < n/2 {
				b.Fatalf("%d closed", closed)
			}
			next++
		}
	})
}

// BenchmarkChange adds to a connection as many topics as it may have by default, and removes
// them again.
func BenchmarkChange(b *testing.B) {
	s := newSite(nil)
	c := openMany(b, s, 1)[0]
	names := make([]string, gateway.DefaultMaxTopics)
	for i := range names {
		names[i] = "topic." + strconv.Itoa(i)
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, change := range [][2][]string{{names, nil}, {nil, names}} {
			if _, err := c.Change(change[0], change[1]); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkHeartbeatTurn sends a heartbeat to each of 20,000 streams.
func BenchmarkHeartbeatTurn(b *testing.B) {
	s := newSite(nil)
	openMany(b, s, 20000)
	b.ReportAllocs()
	for b.Loop() {
		s.gw.Turn()
	}
	if n := s.gw.Stats().Heartbeats.Load(); n < 20000 {
		b.Fatalf("%d heartbeats", n)
	}
}
