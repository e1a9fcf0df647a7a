package nats

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// ends waits for the end of Run.
func ends(t *testing.T, over <-chan error, with error) {
	t.Helper()
	select {
	case err := <-over:
		if !errors.Is(err, with) {
			t.Errorf("Run: %v, want %v", err, with)
		}
	case <-time.After(patience):
		t.Errorf("Run does not end, want %v", with)
	}
}

func mustStream(t testing.TB, e *session) jetstream.Stream {
	t.Helper()
	stream, err := e.js.Stream(t.Context(), e.name)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// A reader that NATS has forgotten is made anew, and nothing is missed.
func TestReaderForgotten(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	e := mustOpen(t, at(s.ClientURL()))
	run(t, e)
	tailer, _ := e.log.Tail()
	publish(t, e, "1")
	stream := mustStream(t, e)
	names := stream.ConsumerNames(t.Context())
	deleted := 0
	for name := range names.Name() {
		if err := stream.DeleteConsumer(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		deleted++
	}
	if err := names.Err(); err != nil || deleted == 0 {
		t.Fatalf("%d readers, %v", deleted, err)
	}
	publish(t, e, "2")
	for offset := range uint64(2) {
		if r := next(t, tailer); r.Offset != offset+1 {
			t.Errorf("%d comes where %d is due", r.Offset, offset+1)
		}
	}
}

// What a node has not read and the stream no longer has ends Run: it is not passed
// over in silence, neither at the beginning nor behind what was read.
func TestFellBehind(t *testing.T) {
	t.Parallel()
	for gone := range uint64(2) {
		s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
		cfg := at(s.ClientURL())
		behind, other := mustOpen(t, cfg), mustOpen(t, cfg)
		run(t, other)
		for range 3 {
			publish(t, other, "x")
		}
		if err := mustStream(t, other).DeleteMsg(t.Context(), gone+1); err != nil {
			t.Fatal(err)
		}
		ends(t, run(t, behind), errLogLost)
		if last := behind.log.Stats().Last; last != gone {
			t.Errorf("the log ends at %d, want %d", last, gone)
		}

		// Who opens anew has what there is, and says where it begins.
		anew := mustOpen(t, cfg)
		run(t, anew)
		for after := range uint64(3) {
			missed, reaches := anew.log.Missed(after, 3, []string{"a"}, 10)
			if len(missed) != int(3-max(after, gone+1)) || reaches != (after > gone) {
				t.Errorf("without %d, behind %d: %d records, reaches: %v", gone+1, after, len(missed), reaches)
			}
		}
	}
}
