package topics

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/frame"
	"ssegateway/sse"
)

// nobody is a subscriber that takes nothing.
type nobody struct{ Subscriber }

// A replay returns no more records of topics that its member has removed, and reports which
// of those it returned last are unwanted. The member does not keep a finished replay.
func TestRemoveFromReplay(t *testing.T) {
	engine := broker.NewMemory(1<<20, time.Hour)
	all := New(engine, false)
	const events = 3 * replayBatch
	for n := range events {
		of := [][]string{{"t"}, {"u"}, {"t", "u"}}[n%3]
		p := broker.Publication{Topics: of, Event: sse.Event{Data: strconv.Itoa(n)}, Store: true}
		if _, err := engine.Append(context.Background(), p); err != nil {
			t.Fatal(err)
		}
	}
	for i := range all.shards {
		all.shards[i].position = events // as if it were delivered
	}
	m := all.NewMember(nobody{}, 0)
	_, r, _ := m.Welcome([]string{"t", "u"}, Beginning{LastEventID: engine.Log().Epoch() + "-0"}, sse.Retry{})
	if got := m.Replays(); len(got) != 1 || got[0] != r {
		t.Fatalf("the member has the replays %v", got)
	}
	next := func() (offsets []uint64) {
		r.Next(1<<20, func(f frame.Frame, _ *frame.Shared) {
			e, err := sse.NewDecoder(bytes.NewReader(f.Wire(false))).Next()
			position, _ := broker.ParsePosition(e.ID.String())
			if err != nil || position.Offset == 0 {
				t.Errorf("not a stored event: %q", f.Wire(false))
			}
			offsets = append(offsets, position.Offset)
		})
		return offsets
	}
	change := func(add, remove []string) {
		if _, err := m.Change(add, remove, 10); err != nil {
			t.Fatal(err)
		}
	}

	if got := next(); len(got) != replayBatch {
		t.Fatalf("the first batch has %d records, want %d", len(got), replayBatch)
	}
	if slices.Contains(r.Unwanted(), true) {
		t.Error("something is unwanted though nothing was removed")
	}
	change([]string{"v"}, []string{"t"})
	unwanted := r.Unwanted()
	for n, is := range unwanted {
		if is != (n%3 == 0) {
			t.Errorf("record %d is unwanted: %v", n, is)
		}
	}
	if len(unwanted) != replayBatch {
		t.Errorf("Unwanted reports on %d records, want %d", len(unwanted), replayBatch)
	}
	if again := r.Unwanted(); slices.Contains(again, true) || len(again) >= replayBatch {
		t.Errorf("records are reported as unwanted twice: %v", again)
	}
	change([]string{"t"}, nil) // which brings what is published from now on
	for _, offset := range next() {
		if offset%3 == 1 {
			t.Errorf("got record %d of a topic that was removed", offset)
		}
	}
	change(nil, []string{"u"})
	if unwanted := r.Unwanted(); len(unwanted) == 0 || slices.Contains(unwanted, false) {
		t.Errorf("no topic is left, but unwanted is %v", unwanted)
	}
	if r.log != nil {
		t.Error("a replay without topics keeps the log")
	}
	if got := next(); got != nil {
		t.Errorf("got %d records without any topic left", len(got))
	}
	if got := m.Replays(); got != nil {
		t.Errorf("the member keeps the replays %v", got)
	}
}
