package gateway_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"ssegateway/internal/broker"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/topics"
	"ssegateway/sse"
)

// grant opens a connection with a grant.
func (s site) grant(t testing.TB, room int, g gateway.Grant) (*gateway.Conn, *tape) {
	t.Helper()
	c := s.connect(t)
	tp := &tape{conn: c, room: room}
	if !c.Open(tp, frame.Frame{}, g) {
		t.Fatal("the connection did not open")
	}
	return c, tp
}

// publish publishes an event and returns its position and receivers.
func (s site) publish(t testing.TB, data string, store bool, topics ...string) (broker.Position, int) {
	t.Helper()
	p, n, err := s.topics.Publish(context.Background(), topics, sse.Event{Data: data}, store)
	if err != nil {
		t.Fatal(err)
	}
	return p, n
}

// epoch replaces the log's epoch by E, so that the output is the same for every log.
func (s site) epoch(wire string) string { return strings.ReplaceAll(wire, s.topics.Log().Epoch, "E") }

// A client that comes back to a shard that is behind the one that it left gets no event twice,
// stored or not.
func TestAheadOfItsShard(t *testing.T) {
	s := newSite(nil) // not running: its shards deliver nothing, as if they were far behind
	log := s.engine.Log()
	for n, store := range []bool{true, false, true, false} {
		if _, err := log.Append(broker.Publication{Topics: []string{"t"}, Event: sse.Event{Data: string(rune('1' + n))}, Store: store}); err != nil {
			t.Fatal(err)
		}
	}
	_, tp := s.grant(t, plenty, gateway.Grant{Topics: []string{"t"}, Beginning: topics.Beginning{LastEventID: broker.Position{Epoch: log.Epoch(), Offset: 2}.String()}})
	_, fresh := s.grant(t, plenty, gateway.Grant{Topics: []string{"t"}})
	stop := s.start()
	s.publish(t, "5", false, "t")
	stop()
	if got, want := s.epoch(tp.written()), "id: E-2\n\ndata: 5\n\n"; got != want {
		t.Errorf("written %q, want %q", got, want)
	}
	// A new client starts where the shard is.
	if got, want := s.epoch(fresh.written()), "id: E-0\n\nid: E-1\ndata: 1\n\nid: E-2\ndata: 3\n\ndata: 5\n\n"; got != want {
		t.Errorf("written %q, want %q", got, want)
	}
}

// An event that was delivered is not kept in memory by the connections that got it.
func TestDeliveredIsForgotten(t *testing.T) {
	s := newSite(nil)
	s.run(t)
	const conns = 100
	data := strings.Repeat("x", 100<<10)
	for n := range conns {
		_, tp := s.grant(t, plenty, gateway.Grant{Topics: []string{"user." + string(rune('a'+n))}})
		tp.forgetful = true
	}
	before := heap()
	for n := range conns {
		if _, receivers := s.publish(t, data, false, "user."+string(rune('a'+n))); receivers != 1 {
			t.Fatalf("%d receivers", receivers)
		}
	}
	if grown := heap() - before; grown > 1<<20 {
		t.Errorf("%d bytes of what was delivered stay in memory", grown)
	}
	runtime.KeepAlive(s)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// sink is a stream that takes everything and keeps nothing. It has the size of a detached
// socket, and as with a socket, a write only reads it.
type sink struct {
	full bool
	_    [31]byte
}

func (s *sink) Start() gateway.Detail { return 0 }

func (s *sink) Write(p []byte) (int, gateway.Detail) {
	if s.full {
		return 0, 0
	}
	return len(p), 0
}

func (s *sink) Left() (gateway.Reason, gateway.Detail) { return 0, 0 }

func (s *sink) Look(uint64) (uint64, bool) { return 1, false }

func (s *sink) Close(bool) {}

func (s *sink) Chunked() bool { return true }

// sinks opens connections whose streams are sinks.
func (s site) sinks(t testing.TB, n int, g gateway.Grant) (conns []*gateway.Conn, streams []*sink) {
	t.Helper()
	for range n {
		c, stream := s.connect(t), &sink{}
		if !c.Open(stream, frame.Frame{}, g) {
			t.Fatal("the connection did not open")
		}
		conns, streams = append(conns, c), append(streams, stream)
	}
	return conns, streams
}

// A topic of a connection costs at most 100 bytes if other connections have it too, and the
// memory is released afterwards.
func TestMemoryOfTopics(t *testing.T) {
	const each = 100
	for _, test := range []struct {
		name  string
		conns int
		most  int64 // bytes for each pair of a connection and a topic
		of    func(conn, n int) string
	}{
		{"topics of all", 10000, 100, func(_, n int) string { return fmt.Sprintf("room.%d", n) }},
		{"topics of 100 each", 10000, 100, func(conn, n int) string { return fmt.Sprintf("room.%d", (conn*37+n*101)%10000) }},
		{"topics of one each", 1000, 250, func(conn, n int) string { return fmt.Sprintf("user.%d.%d", conn, n) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(nil)
			all, _ := s.sinks(t, test.conns, gateway.Grant{})
			before := heap()
			for i, c := range all {
				names := make([]string, each)
				for n := range names {
					names[n] = test.of(i, n)
				}
				if got, err := c.Change(names, nil); err != nil || len(got) != each {
					t.Fatalf("%d topics, %v", len(got), err)
				}
			}
			pairs := int64(test.conns * each)
			pair := (heap() - before) / pairs
			t.Logf("%d bytes for each of %d pairs", pair, pairs)
			if pair > test.most {
				t.Errorf("%d bytes for each pair, want at most %d", pair, test.most)
			}
			for _, c := range all {
				c.Abort(gateway.ClientClosed, 0)
			}
			if left := heap() - before; left > pairs*4 {
				t.Errorf("%d bytes are still in use after all connections ended", left)
			}
			s.expectNothingLeft(t)
			runtime.KeepAlive(all)
		})
	}
}

// BenchmarkFanOut compares publishing an event on a topic with sending its frame to each of the
// topic's connections, and with writing it to each of their streams.
func BenchmarkFanOut(b *testing.B) {
	const conns = 10000
	e := sse.Event{Data: strings.Repeat("x", 256)}
	f := frame.Event(e)
	perDelivery := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*conns), "ns/delivery")
	}
	b.Run("publish", func(b *testing.B) {
		s := newSite(nil)
		_, streams := s.sinks(b, conns, gateway.Grant{Topics: []string{"t"}})
		stop := s.start()
		b.ReportAllocs()
		for b.Loop() {
			if _, n, err := s.topics.Publish(b.Context(), []string{"t"}, e, true); err != nil || n != conns {
				b.Fatalf("%d receivers, %v", n, err)
			}
		}
		perDelivery(b)
		stop()
		runtime.KeepAlive(streams)
	})
	b.Run("send", func(b *testing.B) {
		s := newSite(nil)
		all, _ := s.sinks(b, conns, gateway.Grant{})
		b.ReportAllocs()
		for b.Loop() {
			for _, c := range all {
				c.Send(f, false, nil)
			}
		}
		perDelivery(b)
	})
	b.Run("write", func(b *testing.B) {
		s := newSite(nil)
		_, streams := s.sinks(b, conns, gateway.Grant{})
		for b.Loop() {
			for _, stream := range streams {
				stream.Write(f.Wire(stream.Chunked()))
			}
		}
		perDelivery(b)
	})
}

// The allocations of a publish do not grow with the number of connections.
func TestFanOutAllocations(t *testing.T) {
	s := newSite(nil)
	const conns = 1000
	s.sinks(t, conns, gateway.Grant{Topics: []string{"t"}})
	stop := s.start()
	n := testing.AllocsPerRun(100, func() {
		if _, n, err := s.topics.Publish(t.Context(), []string{"t"}, sse.Event{Data: "x"}, false); err != nil || n != conns {
			t.Errorf("%d receivers, %v", n, err)
		}
	})
	if n > conns/10 {
		t.Errorf("%v allocations for %d connections", n, conns)
	}
	stop()
}
