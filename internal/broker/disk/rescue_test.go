package disk

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/bubble"
	"ssegateway/internal/journal"
	"ssegateway/internal/journal/journaltest"
	"ssegateway/sse"
)

func retain(t *testing.T, s *Store, data, key string, topics ...string) broker.Position {
	t.Helper()
	at, err := s.Append(t.Context(), broker.Publication{Topics: topics, Event: sse.Event{Data: data}, Store: true, Retain: true, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// retained lists topic, key and data.
func retained(s *Store) (list []string) {
	all, _, _ := s.log.Retained("", broker.RetainedCursor{}, 1000, 1<<30)
	for _, r := range all {
		_, data, _ := strings.Cut(string(r.Record.Frame.Wire(false)), "data: ")
		list = append(list, fmt.Sprint(r.Topic, "/", r.Key, "=", strings.TrimSpace(data)))
	}
	return list
}

// inTable returns how many retained events and keys the table has.
func inTable(s *Store) int {
	return len(s.records.Keys(kindRetained)) + len(s.records.Keys(kindKey))
}

// TestRetainedOutlivesItsFile: what is retained is there, in its order and with its id, after its event and the file with it are gone; what has taken
// its place, and what was removed, in files that are gone or not, stays away.
func TestRetainedOutlivesItsFile(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		dir, o, e := t.TempDir(), Options{MaxBytes: 1 << 20, MaxAge: time.Minute, RetainedBytes: 1 << 20}, env{segmentBytes: 1}
		var s *Store
		var stop func()
		end := func(clean bool) {
			stop()
			if clean {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			_ = s.dir.Close()
		}
		again := func(what string, want ...string) {
			t.Helper()
			for _, clean := range []bool{false, true} {
				if got := retained(s); !slices.Equal(got, want) {
					t.Errorf("%s: %q, want %q", what, got, want)
				}
				before := imageOf(s.log)
				end(clean)
				s, stop = run(t, dir, o, e)
				if after := imageOf(s.log); after.Stats != before.Stats || !slices.Equal(after.Kept, before.Kept) {
					t.Errorf("%s: %+v, want %+v", what, after, before)
				}
			}
		}
		later := func() { // all that was published is trimmed
			time.Sleep(2 * time.Minute) // fake clock
			synctest.Wait()
		}
		s, stop = run(t, dir, o, e)
		retain(t, s, "1", "", "a", "b")
		retain(t, s, "2", "k", "a")
		retain(t, s, "3", "l", "c")
		again("at first", "a/=1", "b/=1", "a/k=2", "c/l=3")
		later()
		if stats := s.log.Stats(); stats.Events != 0 || s.events.Segments()[0].Number < 3 {
			t.Errorf("%+v, %v", stats, s.events.Segments())
		}
		again("trimmed", "a/=1", "b/=1", "a/k=2", "c/l=3")
		retain(t, s, "4", "k", "a")
		if _, err := s.Append(t.Context(), broker.Publication{Topics: []string{"b", "c"}, Remove: true}); err != nil {
			t.Fatal(err)
		}
		again("replaced", "a/=1", "a/k=4")
		later()
		again("replaced and trimmed", "a/=1", "a/k=4")
		if n := inTable(s); n != 2 {
			t.Errorf("%d values in the table", n)
		}
		time.Sleep(2 * time.Second) // fake clock
		synctest.Wait()
		if files := s.events.Segments(); len(files) != 1 {
			t.Errorf("%d files of no event, behind a removal", len(files))
		}
		o.RetainedBytes = 700
		end(true)
		s, stop = run(t, dir, o, e)
		if got := retained(s); !slices.Equal(got, []string{"a/=1", "a/k=4"}) {
			t.Errorf("with a lower bound: %q", got)
		}
		full := broker.Publication{Topics: []string{"d"}, Event: sse.Event{Data: "5"}, Store: true, Retain: true}
		if _, err := s.Append(t.Context(), full); !errors.Is(err, broker.ErrRetainedFull) {
			t.Errorf("one more beyond a lower bound: %v", err)
		}
		end(true)
	})
}

// TestKilledWhileAFileGoes: what was copied is there twice then, and is restored once.
func TestKilledWhileAFileGoes(t *testing.T) {
	dir, o, e := t.TempDir(), Options{MaxBytes: 1 << 20, MaxAge: time.Hour, RetainedBytes: 1 << 20}, env{segmentBytes: 1}
	s, err := open(dir, o, e)
	if err != nil {
		t.Fatal(err)
	}
	publish(t, s, "0")
	retain(t, s, "1", "", "a", "b")
	publish(t, s, "2")
	retain(t, s, "3", "", "b")
	held := s.held()
	for _, segment := range s.events.Segments()[:4] {
		if err := s.rescue(segment.Number, held); err != nil {
			t.Fatal(err)
		}
	}
	if n := inTable(s); n != 1 {
		t.Errorf("%d values in the table", n)
	}
	before := imageOf(s.log)
	_ = s.dir.Close()
	if s, err = open(dir, o, e); err != nil {
		t.Fatal(err)
	}
	if after := imageOf(s.log); after.Stats != before.Stats || !slices.Equal(after.Kept, before.Kept) {
		t.Errorf("%+v, want %+v", after, before)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestMissingEvents: without its events a directory would give their copies the ids of other events, once those have files
// that go.
func TestMissingEvents(t *testing.T) {
	dir, o, e := t.TempDir(), Options{MaxBytes: 1 << 20, MaxAge: time.Hour, RetainedBytes: 1 << 20}, env{segmentBytes: 1}
	s, err := open(dir, o, e)
	if err != nil {
		t.Fatal(err)
	}
	retain(t, s, "1", "", "a")
	publish(t, s, "2")
	held := s.held()
	for _, segment := range s.events.Segments() {
		if err := s.rescue(segment.Number, held); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "events-*.journal"))
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	var bad *journal.DirError
	if s, err := open(dir, o, e); !errors.As(err, &bad) {
		t.Errorf("a directory of which %q were removed is opened: %v", files, err)
		_ = s.Close()
	}
	if made, _ := filepath.Glob(filepath.Join(dir, "events-*")); len(made) > 0 {
		t.Errorf("%q were written", made)
	}
}

// TestCutAsItIsReplaced: a copy in the table stays until what has taken its place, or removed it, is on the disk too.
func TestCutAsItIsReplaced(t *testing.T) {
	for seed := range uint64(20) {
		disk := journaltest.New()
		e := env{journal.Env{Boot: "1", Wrap: disk.Wrap}, 1}
		dir, o := t.TempDir(), Options{MaxBytes: 1 << 10, MaxAge: time.Hour, RetainedBytes: 1 << 20}
		s, err := open(dir, o, e)
		if err != nil {
			t.Fatal(err)
		}
		fill := func() { publish(t, s, strings.Repeat(".", 1<<10)) }
		retain(t, s, "1", "", "a", "b")
		fill()
		if err := s.upkeep(); err != nil || len(s.records.Keys(kindRetained)) != 1 {
			t.Fatal(err, s.records.Keys(kindRetained))
		}
		fill()
		if err := s.events.Sync(); err != nil { // what upkeep begins with
			t.Fatal(err)
		}
		if seed%2 == 0 {
			retain(t, s, "2", "", "a", "b")
		} else if _, err := s.Append(t.Context(), broker.Publication{Topics: []string{"a", "b"}, Remove: true}); err != nil {
			t.Fatal(err)
		}
		last := s.log.Stats().Last
		if err := s.drop(); err != nil {
			t.Fatal(err)
		}
		again := t.TempDir()
		if err := disk.Cut(dir, again, rand.New(rand.NewPCG(seed, 0))); err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
		e.Boot = "2"
		if s, err = open(again, o, e); err != nil {
			t.Fatal(err)
		}
		want := []string{"a/=1", "b/=1"}
		switch {
		case s.log.Stats().Last < last:
		case seed%2 == 0:
			want = []string{"a/=2", "b/=2"}
		default:
			want = nil
		}
		if got := retained(s); !slices.Equal(got, want) {
			t.Errorf("seed %d: %q, want %q", seed, got, want)
		}
		_ = s.Close()
	}
}

// TestNoRoomToRetain: of those who come at once some find no room. Their events are not there after a start, and their offsets are
// nobody else's.
func TestNoRoomToRetain(t *testing.T) {
	dir, o := t.TempDir(), Options{MaxBytes: 1 << 20, MaxAge: time.Minute, RetainedBytes: 5000}
	e := env{segmentBytes: 1}
	bubble.Test(t, func(t *testing.T) {
		open1 := make(chan struct{})
		disk := journaltest.New()
		s, err := open(dir, o, env{segmentBytes: 1, Env: journal.Env{Wrap: func(f journal.File) journal.File { return journaltest.Gate{File: disk.Wrap(f), Open: open1} }}})
		if err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		var mu sync.Mutex
		added, refused := map[uint64]string{}, 0
		for n := range 30 {
			group.Go(func() {
				data := fmt.Sprint("event ", n)
				at, err := s.Append(t.Context(), broker.Publication{
					Topics: []string{"t"}, Event: sse.Event{Data: data}, Store: true, Retain: true, Key: fmt.Sprint(n), IdempotencyKey: data,
				})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					added[at.Offset] = data
				case errors.Is(err, broker.ErrRetainedFull):
					refused++
				default:
					t.Error(err)
				}
			})
		}
		synctest.Wait() // all have found room
		close(open1)
		group.Wait()
		if len(added) == 0 || refused == 0 {
			t.Fatalf("%d added, %d refused", len(added), refused)
		}
		before := imageOf(s.log)
		_ = s.dir.Close()
		o.RetainedBytes = 1 << 20 // now there would be room
		s, stop := run(t, dir, o, e)
		after := imageOf(s.log)
		if after.Stats != before.Stats || !slices.Equal(after.Records, before.Records) || !slices.Equal(after.Kept, before.Kept) {
			t.Errorf("%+v, want %+v", after.Stats, before.Stats)
		}
		time.Sleep(90 * time.Second) // fake clock
		synctest.Wait()
		if first := s.events.Segments()[0].Number; first < 3 || s.log.Stats().Retained != len(added) {
			t.Errorf("the first file is %d, %+v", first, s.log.Stats())
		}
		stop()
		_ = s.dir.Close()
		s, stop = run(t, dir, o, e)
		repeats := 0
		for n := range 30 {
			data := fmt.Sprint("event ", n)
			at, err := s.Append(t.Context(), broker.Publication{Topics: []string{"t"}, Event: sse.Event{Data: data}, Store: true, IdempotencyKey: data})
			switch {
			case errors.Is(err, broker.ErrRepeated) && added[at.Offset] == data:
				repeats++
			case err != nil || added[at.Offset] != "":
				t.Errorf("%v, %v", at, err)
			}
		}
		if repeats != len(added) {
			t.Errorf("%d repeats of %d", repeats, len(added))
		}
		stop()
		_ = s.Close()
	})
}

// TestKeysOutliveTheirFile: a key is known for its two minutes, although its event was trimmed, and over a start.
func TestKeysOutliveTheirFile(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		dir, o, e := t.TempDir(), Options{MaxBytes: 1 << 20, MaxAge: 10 * time.Second}, env{segmentBytes: 1}
		s, stop := run(t, dir, o, e)
		positions := map[string]broker.Position{}
		p := func(key string) broker.Publication {
			return broker.Publication{Topics: []string{"t"}, Event: sse.Event{Data: key}, Store: key != "unstored", IdempotencyKey: key}
		}
		for _, key := range []string{"a", "unstored", "b"} {
			at, err := s.Append(t.Context(), p(key))
			if err != nil {
				t.Fatal(err)
			}
			positions[key] = at
			publish(t, s, "between")
		}
		for range 3 {
			for key, want := range positions {
				if at, err := s.Append(t.Context(), p(key)); at != want || !errors.Is(err, broker.ErrRepeated) {
					t.Errorf("%s: %v, %v; want %v", key, at, err, want)
				}
			}
			time.Sleep(30 * time.Second) // fake clock
			synctest.Wait()
			stop()
			_ = s.dir.Close() // killed
			s, stop = run(t, dir, o, e)
		}
		if s.log.Stats().Events != 0 || inTable(s) == 0 {
			t.Errorf("%+v, %d keys", s.log.Stats(), inTable(s))
		}
		time.Sleep(32 * time.Second) // fake clock
		synctest.Wait()
		if n := inTable(s); n != 0 {
			t.Errorf("%d keys are there for ever", n)
		}
		if _, err := s.Append(t.Context(), p("a")); err != nil {
			t.Error(err)
		}
		stop()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
