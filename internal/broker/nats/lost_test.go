package nats

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/internal/broker"
	"ssegateway/sse"
)

// A purge takes what is stored, and the log goes on: what nodes have in memory they keep.
func TestStreamPurged(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	e := mustOpen(t, at(s.ClientURL()))
	run(t, e)
	tailer, _ := e.log.Tail()
	p := publish(t, e, "1")
	next(t, tailer)
	if err := mustStream(t, e).Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := publish(t, e, "2"); after.Epoch != p.Epoch || after.Offset != p.Offset+1 || next(t, tailer).Offset != after.Offset {
		t.Errorf("%v comes behind %v", after, p)
	}
}

// A message that somebody else wrote into the stream is passed over.
func TestForeignMessage(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	e := mustOpen(t, at(s.ClientURL()))
	run(t, e)
	tailer, _ := e.log.Tail()
	if _, err := e.js.Publish(t.Context(), e.subject, []byte("no event")); err != nil {
		t.Fatal(err)
	}
	if p := publish(t, e, "x"); p.Offset != 2 || next(t, tailer).Offset != 2 {
		t.Errorf("at %v", p)
	}
	late := mustOpen(t, at(s.ClientURL()))
	if stats := late.log.Stats(); stats.Events != 1 || stats.Last != 2 {
		t.Errorf("another node has %+v", stats)
	}
}

// A stream that is not the gateway's is left alone.
func TestForeignStream(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	e := mustOpen(t, at(s.ClientURL()))
	cfg := at(s.ClientURL())
	cfg.Prefix = "y"
	if _, err := e.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "y_log", Subjects: []string{"theirs"}}); err != nil {
		t.Fatal(err)
	}
	refused(t, cfg, "is not this gateway's")
}

// An engine whose server comes back as it was before the last events, as one does that
// lost power: its stream has an early end, or other events where the lost ones were. It
// gives the same numbers out again, so the log gets another epoch, and no position means
// two events.
func TestStreamLostItsEnd(t *testing.T) {
	t.Parallel()
	for _, then := range []int{2, 6} {
		s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
		relay := newRelay(t, s)
		e := mustEngine(t, at(relay.url()))
		runEngine(t, e)
		log := e.Log()
		tailer, _ := log.Tail()
		for range 4 {
			append1(t, e, "x")
			next(t, tailer)
		}

		early := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
		conn := dialTest(t, early)
		js, err := jetstream.New(conn.nats)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.CreateStream(t.Context(), mustStream(t, e.session).CachedInfo().Config); err != nil {
			t.Fatal(err)
		}
		for n := range then {
			by := author{"another", uint64(n)}
			if n < 2 {
				by = author{e.session.origin, uint64(n + 1)}
			}
			data, err := encode(broker.Publication{Topics: []string{"a"}, Event: sse.Event{Data: "x"}, Store: true}, by)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := js.Publish(t.Context(), e.session.subject, data); err != nil {
				t.Fatal(err)
			}
		}
		relay.to(early)
		shutdown(s)

		r, tailer, after := follow(t, tailer, log)
		if stats := after.Stats(); r != nil || stats.Epoch == log.Epoch() || stats.Oldest != uint64(then)+1 || stats.Events != 0 {
			t.Errorf("%+v, then the log goes on as %+v", r, stats)
		}
		if p := append1(t, e, "y"); p.Offset != uint64(then)+1 || next(t, tailer).Offset != p.Offset {
			t.Errorf("at %v", p)
		}
		// Who opens it now has only what is of this log.
		late := mustOpen(t, at(early.ClientURL()))
		if stats := late.log.Stats(); stats.Events != 1 || stats.Epoch != after.Epoch() || stats.Oldest != uint64(then)+1 {
			t.Errorf("another node has %+v", stats)
		}
	}
}
