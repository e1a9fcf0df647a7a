package nats

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"ssegateway/internal/broker"
	"ssegateway/sse"
)

func runEngine(t testing.TB, e *Engine) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-over; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// append1 appends, as soon as that is possible.
func append1(t testing.TB, e *Engine, data string) broker.Position {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		p, err := e.Append(ctx, broker.Publication{Topics: []string{"a"}, Event: sse.Event{Data: data}, Store: true})
		cancel()
		if err == nil {
			return p
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// follow takes records, and goes on with the log that replaces another.
func follow(t testing.TB, tailer *broker.Tailer, log *broker.Log) (*broker.Record, *broker.Tailer, *broker.Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r := tailer.Next(ctx)
	if next := tailer.Replacement(); r == nil && next != nil {
		return nil, next.Tailer, next.Log
	}
	if r == nil {
		t.Fatal("no record, and no other log")
	}
	return r, tailer, log
}

// The engine outlives the loss of its stream: another log replaces the one that was
// lost, after all of that, and the followers learn it.
func TestEngineGoesOn(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	e := mustEngine(t, at(s.ClientURL()))
	runEngine(t, e)
	log := e.Log()
	tailer, _ := log.Tail()
	first := append1(t, e, "1")
	if r, _, _ := follow(t, tailer, log); r == nil || r.Offset != first.Offset {
		t.Fatalf("%+v", r)
	}
	stream, err := e.session.js.Stream(t.Context(), "x_log")
	if err != nil {
		t.Fatal(err)
	}
	if err := e.session.js.DeleteStream(t.Context(), stream.CachedInfo().Config.Name); err != nil {
		t.Fatal(err)
	}
	r, tailer, next := follow(t, tailer, log)
	if r != nil || next == log || next.Epoch() == log.Epoch() || !e.Ready() {
		t.Fatalf("%+v, epochs %q and %q", r, log.Epoch(), next.Epoch())
	}
	second := append1(t, e, "2")
	if r, _, _ := follow(t, tailer, next); r == nil || r.Offset != second.Offset || second.Epoch != next.Epoch() {
		t.Fatalf("%+v, %v", r, second)
	}
}

// The engine waits for a NATS that is away when it starts.
func TestEngineStartsWithoutServer(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	r := newRelay(t, s)
	address := r.target.Swap(&[]string{"127.0.0.1:1"}[0])
	conn, err := Dial(at(r.url()).Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	e := NewEngine(conn, at("").LogConfig)
	runEngine(t, e)
	if _, err := e.Append(t.Context(), broker.Publication{Topics: []string{"a"}}); !errors.Is(err, broker.ErrUnavailable) || e.Ready() || conn.Away() == 0 {
		t.Errorf("without a server: %v, ready: %v, away for %v", err, e.Ready(), conn.Away())
	}
	r.target.Store(address)
	if p := append1(t, e, "1"); p.Offset != 1 || !e.Ready() || conn.Away() != 0 {
		t.Errorf("%v, ready: %v, away for %v", p, e.Ready(), conn.Away())
	}
}

// A NATS that is there, but whose JetStream does not answer, is of no use: it counts as away.
func TestJetStreamAway(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	e := mustEngine(t, at(s.ClientURL()))
	runEngine(t, e)
	append1(t, e, "1")
	away := func(is bool) {
		t.Helper()
		for end := time.Now().Add(patience); e.Away() > 0 != is; <-time.After(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("away for %v, want any: %v", e.Away(), is)
			}
		}
	}
	away(false)
	if err := s.DisableJetStream(); err != nil {
		t.Fatal(err)
	}
	away(true)
	if e.conn.Away() != 0 {
		t.Errorf("the connection is away for %v", e.conn.Away())
	}
}

// A stream that has lost its end, as after a power failure, would give numbers out
// again: it is made anew, and no position means two events.
func TestStreamCutShort(t *testing.T) {
	t.Parallel()
	dir, earlier := t.TempDir(), filepath.Join(t.TempDir(), "earlier")
	s := serve(t, server.Options{Port: -1, StoreDir: dir})
	relay := newRelay(t, s)
	e := mustEngine(t, at(relay.url()))
	runEngine(t, e)
	log := e.Log()
	append1(t, e, "1")
	shutdown(s)
	if err := os.CopyFS(earlier, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	s = serve(t, server.Options{Port: -1, StoreDir: dir})
	relay.to(s)
	var last broker.Position
	for range 3 {
		last = append1(t, e, "2")
	}
	if last.Epoch != log.Epoch() || last.Offset < 4 {
		t.Fatalf("%v behind %q", last, log.Epoch())
	}
	shutdown(s)
	relay.to(serve(t, server.Options{Port: -1, StoreDir: earlier}))
	tailer, _ := log.Tail()
	r, _, next := follow(t, tailer, log)
	if r != nil || next.Epoch() == log.Epoch() {
		t.Errorf("%+v, and epoch %q again", r, next.Epoch())
	}
	if p := append1(t, e, "3"); p.Epoch != next.Epoch() {
		t.Errorf("%v in the log %q", p, next.Epoch())
	}
}

func shutdown(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}
