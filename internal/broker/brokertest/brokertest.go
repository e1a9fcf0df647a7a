// Package brokertest is the suite that every engine of the broker has to pass.
package brokertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/sse"
)

// Suite says how to make the engines under test.
type Suite struct {
	// Open makes an engine with an empty log of its own and the given bounds. The suite
	// calls its Run.
	Open func(t testing.TB, bounds Bounds) broker.Engine

	// Within runs a test; bubble.Test for an engine that does nothing outside of
	// the process, so that it need not wait for time to pass. nil: as it is.
	Within func(t *testing.T, f func(t *testing.T))
}

// Bounds are those of a log.
type Bounds struct {
	MaxBytes      int64
	MaxAge        time.Duration
	RetainedBytes int64 // of all retained events
}

// Bounds that no test reaches by accident.
const (
	plenty  = 64 << 20
	forLong = time.Hour
)

// patience is how long something may take that should happen at once.
const patience = 30 * time.Second

// Run runs the suite.
func Run(t *testing.T, s Suite) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s Suite)
	}{
		{"Append", testAppend},
		{"OneOrder", testOneOrder},
		{"TailFromNow", testTailFromNow},
		{"TailWhileAppending", testTailWhileAppending},
		{"TrimBytes", testTrimBytes},
		{"TrimOneLarge", testTrimOneLarge},
		{"TrimAge", testTrimAge},
		{"Epoch", testEpoch},
		{"Missed", testMissed},
		{"Unstored", testUnstored},
		{"SlowTailer", testSlowTailer},
		{"TailerGivenUp", testTailerGivenUp},
		{"Close", testClose},
		{"Retained", testRetained},
		{"RetainedModel", testRetainedModel},
		{"RetainedBeyondTheLog", testRetainedBeyondTheLog},
		{"RetainedFull", testRetainedFull},
		{"Removal", testRemoval},
		{"KeyRepeated", testKeyRepeated},
		{"KeyAtOnce", testKeyAtOnce},
	} {
		s.run(t, test.name, test.run)
	}
}

func (s Suite) run(t *testing.T, name string, test func(t *testing.T, s Suite)) {
	t.Run(name, func(t *testing.T) {
		if s.Within == nil {
			test(t, s)
			return
		}
		s.Within(t, func(t *testing.T) { test(t, s) })
	})
}

// bench is a running engine.
type bench struct {
	broker.Engine
	t *testing.T
	// stop ends Run and waits for it.
	stop func()
}

func (s Suite) start(t *testing.T, maxBytes int64, maxAge time.Duration) *bench {
	return run(t, s.Open(t, Bounds{maxBytes, maxAge, plenty}))
}

func run(t *testing.T, e broker.Engine) *bench {
	b := &bench{Engine: e, t: t}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- b.Run(ctx) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-over; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(b.stop)
	return b
}

// event returns an event with text in its data.
func event(text string) sse.Event { return sse.Event{Data: text} }

// publish appends an event and returns its position.
func (b *bench) publish(text string, store bool, topics ...string) broker.Position {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p, err := b.Append(ctx, broker.Publication{Topics: topics, Event: event(text), Store: store})
	if err != nil {
		b.t.Fatalf("append %q: %v", text, err)
	}
	return p
}

// text returns the text that event was given.
func text(r *broker.Record) string {
	var data string
	for line := range strings.Lines(string(r.Frame.Wire(false))) {
		if rest, ok := strings.CutPrefix(line, "data: "); ok {
			data += rest
		}
	}
	return strings.TrimSuffix(data, "\n")
}

// id returns the id of the record's frame.
func id(r *broker.Record) string {
	for line := range strings.Lines(string(r.Frame.Wire(false))) {
		if rest, ok := strings.CutPrefix(line, "id: "); ok {
			return strings.TrimSuffix(rest, "\n")
		}
	}
	return ""
}

// take follows the log for n records.
func take(t *testing.T, tailer *broker.Tailer, n int) []*broker.Record {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var records []*broker.Record
	for range n {
		r := tailer.Next(ctx)
		if r == nil {
			t.Errorf("no record after %d of %d", len(records), n)
			return records
		}
		records = append(records, r)
	}
	return records
}

func texts(records []*broker.Record) []string {
	list := []string{}
	for _, r := range records {
		list = append(list, text(r))
	}
	return list
}

// numbers returns the texts from..to of a test that counts.
func numbers(from, to int) []string {
	list := []string{}
	for n := from; n <= to; n++ {
		list = append(list, strconv.Itoa(n))
	}
	return list
}

func expect(t *testing.T, what string, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	t.Errorf("%s: %d records, want %d; they differ from number %d on: %q, want %q",
		what, len(got), len(want), at, first(got[at:]), first(want[at:]))
}

func first(list []string) []string { return list[:min(len(list), 5)] }

// eventually waits until something is true.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for waited := time.Duration(0); !is(); waited += 10 * time.Millisecond {
		if waited > patience {
			t.Fatalf("not within %v: %s", patience, what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// What is appended is what readers get, and its position is its id.
func testAppend(t *testing.T, s Suite) {
	b := s.start(t, plenty, forLong)
	tailer, _ := b.Log().Tail()
	var positions []broker.Position
	for n := range 100 {
		p, err := b.Append(t.Context(), broker.Publication{
			Topics: []string{"a", "b" + strconv.Itoa(n)}, Event: event(strconv.Itoa(n)), Store: true, Ref: uint64(n),
		})
		if err != nil {
			t.Fatal(err)
		}
		positions = append(positions, p)
	}
	for n, r := range take(t, tailer, 100) {
		p := positions[n]
		want := []string{"a", "b" + strconv.Itoa(n)}
		if r.Offset != p.Offset || !r.Stored || r.Ref != uint64(n) || !slices.Equal(r.Topics, want) || text(r) != strconv.Itoa(n) {
			t.Errorf("record %d: %+v, appended at %v", n, r, p)
		}
		if id(r) != p.String() {
			t.Errorf("record %d at %v has the id %q", n, p, id(r))
		}
		if back, ok := broker.ParsePosition(id(r)); !ok || back != p {
			t.Errorf("the id %q is read as %v, %v", id(r), back, ok)
		}
		if p.Epoch != b.Log().Epoch() || n > 0 && p.Offset <= positions[n-1].Offset {
			t.Errorf("position %d is %v, behind %v", n, p, positions[max(n-1, 0)])
		}
	}
}

// Many publishers at once: there is one order for all readers, and it is that of
// each publisher.
func testOneOrder(t *testing.T, s Suite) {
	b := s.start(t, plenty, forLong)
	const publishers, each, readers = 4, 200, 3
	sequences := make([][]*broker.Record, readers)
	var group sync.WaitGroup
	for i := range sequences {
		tailer, _ := b.Log().Tail()
		group.Go(func() { sequences[i] = take(t, tailer, publishers*each) })
	}
	for p := range publishers {
		group.Go(func() {
			var before broker.Position
			for n := range each {
				at, err := b.Append(t.Context(), broker.Publication{
					Topics: []string{"t"}, Event: event(fmt.Sprintf("%d.%d", p, n)), Store: (n+p)%3 > 0,
				})
				if err != nil || at.Offset < before.Offset {
					t.Errorf("append after %v: %v, %v", before, at, err)
				}
				before = at
			}
		})
	}
	group.Wait()
	for i, sequence := range sequences {
		expect(t, "reader "+strconv.Itoa(i), texts(sequence), texts(sequences[0]))
	}
	if n := b.Log().Stats().Records; n != publishers*each {
		t.Errorf("%d records, of %d", n, publishers*each)
	}
	next := make([]int, publishers)
	var stored []string
	for i, r := range sequences[0] {
		if r.Seq != uint64(i)+1 {
			t.Fatalf("record %d has the place %d", i, r.Seq)
		}
		var p, n int
		if _, err := fmt.Sscanf(text(r), "%d.%d", &p, &n); err != nil {
			t.Fatalf("a record nobody appended: %q", text(r))
		}
		if n != next[p] {
			t.Fatalf("publisher %d's number %d comes where %d is due", p, n, next[p])
		}
		next[p]++
		if r.Stored {
			stored = append(stored, text(r))
		}
	}
	missed, _ := b.Log().Missed(0, b.Log().Stats().Last, []string{"t"}, publishers*each)
	expect(t, "what is stored", texts(missed), stored)
}

// A tailer begins now: the rest is what the log has stored up to then.
func testTailFromNow(t *testing.T, s Suite) {
	b := s.start(t, plenty, forLong)
	early, offset := b.Log().Tail()
	if offset != 0 {
		t.Errorf("an empty log ends at %d", offset)
	}
	for n := range 10 {
		b.publish(strconv.Itoa(n), true, "t")
	}
	take(t, early, 10) // so that the log has them
	tailer, offset := b.Log().Tail()
	for n := range 10 {
		b.publish(strconv.Itoa(10+n), true, "t")
	}
	expect(t, "what is tailed", texts(take(t, tailer, 10)), numbers(10, 19))
	missed, reaches := b.Log().Missed(0, offset, []string{"t"}, 100)
	expect(t, "what was there", texts(missed), numbers(0, 9))
	if !reaches {
		t.Error("the log does not reach back to its beginning")
	}
}

// Between what is stored when a tailer begins and what it sees nothing is lost
// and nothing doubled, while others append.
func testTailWhileAppending(t *testing.T, s Suite) {
	b := s.start(t, plenty, forLong)
	const n = 500
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 20 {
				tailer, offset := b.Log().Tail()
				missed, reaches := b.Log().Missed(0, offset, []string{"t"}, n)
				all := append(texts(missed), texts(take(t, tailer, n-len(missed)))...)
				expect(t, "before and behind "+strconv.Itoa(len(missed)), all, numbers(1, n))
				if !reaches {
					t.Error("the log does not reach back to its beginning")
				}
			}
		})
	}
	for i := range n {
		b.publish(strconv.Itoa(i+1), true, "t")
	}
	group.Wait()
}

// The log keeps the newest within its bytes, and says where it begins.
func testTrimBytes(t *testing.T, s Suite) {
	const bound = 20000
	b := s.start(t, bound, forLong)
	tailer, _ := b.Log().Tail()
	positions := []broker.Position{{Epoch: b.Log().Epoch()}}
	filler := strings.Repeat("x", 900)
	const n = 200
	for i := 1; i <= n; i++ {
		positions = append(positions, b.publish(strconv.Itoa(i)+filler, true, "t"+strconv.Itoa(i%3), "all"))
		take(t, tailer, 1)
		stats := b.Log().Stats()
		if stats.Bytes > bound || stats.Bytes < int64(min(i, 10)*900) {
			t.Fatalf("%d bytes are kept of %d events, the bound is %d", stats.Bytes, i, bound)
		}
		kept, _ := b.Log().Missed(0, stats.Last, []string{"all"}, n)
		if stats.Last != positions[i].Offset || int64(len(kept)) != stats.Events || kept[0].Offset != stats.Oldest {
			t.Fatalf("%+v after %v, kept from %d on", stats, positions[i], kept[0].Offset)
		}
		for k, r := range kept {
			if r.Offset != positions[i-len(kept)+1+k].Offset {
				t.Fatalf("kept is %d, want %v", r.Offset, positions[i-len(kept)+1+k])
			}
		}
		for k := range i + 1 {
			_, reaches := b.Log().Missed(positions[k].Offset, stats.Last, []string{"t0"}, n)
			if want := k >= i-len(kept); reaches != want {
				t.Fatalf("behind %v, of %d to %d: reaches is %v", positions[k], stats.Oldest, stats.Last, reaches)
			}
		}
	}
	for topic := range 3 {
		kept, _ := b.Log().Missed(0, positions[n].Offset, []string{"t" + strconv.Itoa(topic)}, n)
		for k, r := range kept {
			if k > 0 && r.Offset <= kept[k-1].Offset || r.Offset < b.Log().Stats().Oldest {
				t.Errorf("topic %d has a record at %d", topic, r.Offset)
			}
		}
	}
}

// The newest is kept whatever its size.
func testTrimOneLarge(t *testing.T, s Suite) {
	b := s.start(t, 1000, forLong)
	tailer, _ := b.Log().Tail()
	b.publish("small", true, "t")
	p := b.publish(strings.Repeat("x", 5000), true, "t")
	take(t, tailer, 2)
	if missed, _ := b.Log().Missed(0, p.Offset, []string{"t"}, 10); len(missed) != 1 || missed[0].Offset != p.Offset {
		t.Errorf("kept %q, want the large event", texts(missed))
	}
	b.publish("small", true, "t")
	take(t, tailer, 1)
	if missed, _ := b.Log().Missed(0, p.Offset+10, []string{"t"}, 10); len(missed) != 1 || text(missed[0]) != "small" {
		t.Errorf("kept %d records, want the small event", len(missed))
	}
}

// What is too old goes, even if nothing comes behind it.
func testTrimAge(t *testing.T, s Suite) {
	const maxAge = 2 * time.Second
	b := s.start(t, plenty, maxAge)
	tailer, _ := b.Log().Tail()
	start := time.Now()
	b.publish("old", true, "t")
	last := b.publish("older", true, "t", "u")
	take(t, tailer, 2)
	eventually(t, "an old log is empty", func() bool { return b.Log().Stats().Events == 0 })
	if took := time.Since(start); took < maxAge {
		t.Errorf("trimmed after %v of %v", took, maxAge)
	}
	stats := b.Log().Stats()
	if stats.Bytes != 0 || stats.Oldest != last.Offset+1 || stats.Last != last.Offset {
		t.Errorf("an empty log behind %v: %+v", last, stats)
	}
	if missed, reaches := b.Log().Missed(last.Offset, last.Offset, []string{"t", "u"}, 10); len(missed) > 0 || !reaches {
		t.Errorf("behind the last: %q, %v", texts(missed), reaches)
	}
	if missed, reaches := b.Log().Missed(last.Offset-1, last.Offset, []string{"t", "u"}, 10); len(missed) > 0 || reaches {
		t.Errorf("before the last: %q, %v", texts(missed), reaches)
	}
	if next := b.publish("new", true, "t"); next.Offset <= last.Offset {
		t.Errorf("%v comes behind %v", next, last)
	}
	expect(t, "what comes then", texts(take(t, tailer, 1)), []string{"new"})
}

// A log's positions are never those of another log.
func testEpoch(t *testing.T, s Suite) {
	seen := map[string]bool{}
	for range 5 {
		b := s.start(t, plenty, forLong)
		p := b.publish("x", true, "t")
		if p.Epoch == "" || strings.Contains(p.Epoch, "-") || seen[p.Epoch] || p.Epoch != b.Log().Epoch() {
			t.Errorf("epoch %q after %v", p.Epoch, seen)
		}
		if _, err := sse.NewID(p.String()); err != nil {
			t.Error(err)
		}
		seen[p.Epoch] = true
	}
}

// Missed, held to its definition.
func testMissed(t *testing.T, s Suite) {
	b := s.start(t, plenty, forLong)
	tailer, _ := b.Log().Tail()
	random := rand.New(rand.NewPCG(1, 2))
	names := []string{"a", "b", "c", "d", "e"}
	choice := func() []string {
		return slices.DeleteFunc(slices.Clone(names), func(string) bool { return random.IntN(3) > 0 })
	}
	const n = 300
	for i := range n {
		b.publish(strconv.Itoa(i), random.IntN(4) > 0, choice()...)
	}
	all := take(t, tailer, n)
	last := int(b.Log().Stats().Last)
	for range 3000 {
		topics := choice()
		after, upto, limit := uint64(random.IntN(last+3)), uint64(random.IntN(last+3)), random.IntN(20)
		var want []string
		for _, r := range all {
			if len(want) < limit && r.Stored && r.Offset > after && r.Offset <= upto &&
				slices.ContainsFunc(r.Topics, func(name string) bool { return slices.Contains(topics, name) }) {
				want = append(want, text(r))
			}
		}
		got, reaches := b.Log().Missed(after, upto, topics, limit)
		expect(t, fmt.Sprintf("of %q behind %d up to %d, %d at most", topics, after, upto, limit), texts(got), want)
		if !reaches {
			t.Errorf("nothing was trimmed, but the log does not reach back to %d", after)
		}
		if t.Failed() {
			return
		}
	}
}

// What is not stored has its place in the order, and no other.
func testUnstored(t *testing.T, s Suite) {
	b := s.start(t, plenty, forLong)
	tailer, _ := b.Log().Tail()
	var before uint64
	for n := range 40 {
		store := n%4 == 1
		p := b.publish(strconv.Itoa(n), store, "t")
		if !store && p.Offset != before {
			t.Errorf("an unstored record at %v, behind %d", p, before)
		}
		before = p.Offset
	}
	before = 0
	_, selects := b.Engine.(broker.Selective) // its log may have come further than to its last record
	for n, r := range take(t, tailer, 40) {
		switch {
		case text(r) != strconv.Itoa(n):
			t.Fatalf("record %d is %q", n, text(r))
		case r.Stored != (n%4 == 1):
			t.Errorf("record %d is stored: %v", n, r.Stored)
		case r.Stored && r.Offset <= before, !r.Stored && (r.Offset < before || r.Offset > before && !selects || id(r) != ""):
			t.Errorf("record %d behind %d: %+v, id %q", n, before, r, id(r))
		}
		before = r.Offset
	}
	if stats := b.Log().Stats(); stats.Events != 10 {
		t.Errorf("%d events are kept, of 10", stats.Events)
	}
	missed, _ := b.Log().Missed(0, before, []string{"t"}, 100)
	for n, r := range missed {
		if text(r) != strconv.Itoa(4*n+1) {
			t.Errorf("stored record %d is %q", n, text(r))
		}
	}
	b.publish("last", false, "t")
	b.publish("of all", true, "t")
	records := take(t, tailer, 2)
	if records[0].Offset != before || records[1].Offset <= before {
		t.Errorf("behind %d come %+v and %+v", before, records[0], records[1])
	}
	// A tailer that begins behind an unstored record does not get it.
	b.publish("gone", false, "t")
	take(t, tailer, 1)
	late, _ := b.Log().Tail()
	b.publish("seen", false, "t")
	expect(t, "a late tailer", texts(take(t, late, 1)), []string{"seen"})
}

// A slow tailer loses nothing, whatever is trimmed, and delays no other.
func testSlowTailer(t *testing.T, s Suite) {
	b := s.start(t, 5000, forLong)
	slow, _ := b.Log().Tail()
	fast, _ := b.Log().Tail()
	const n = 2000
	for i := range n {
		b.publish(strconv.Itoa(i+1), i%5 > 0, "t")
	}
	expect(t, "the fast one", texts(take(t, fast, n)), numbers(1, n))
	if b.Log().Stats().Events > 100 {
		t.Error("nothing was trimmed")
	}
	expect(t, "the slow one", texts(take(t, slow, n)), numbers(1, n))
}

// A tailer's wait ends with its context, and no other tailer's does.
func testTailerGivenUp(t *testing.T, s Suite) {
	b := s.start(t, plenty, forLong)
	ctx, cancel := context.WithCancel(t.Context())
	const waiting = 10
	ended := make(chan *broker.Record, waiting)
	for range waiting {
		tailer, _ := b.Log().Tail()
		go func() { ended <- tailer.Next(ctx) }()
	}
	patient, _ := b.Log().Tail()
	got := make(chan []*broker.Record)
	go func() { got <- take(t, patient, 1) }()
	cancel()
	for range waiting {
		if r := <-ended; r != nil {
			t.Errorf("a record nobody appended: %+v", r)
		}
	}
	b.publish("x", true, "t")
	expect(t, "the other", texts(<-got), []string{"x"})
}

// When Run ends, all tailers end, and Append fails.
func testClose(t *testing.T, s Suite) {
	b := s.start(t, plenty, forLong)
	const n = 5
	ended := make(chan []*broker.Record, n)
	for range n {
		tailer, _ := b.Log().Tail()
		go func() {
			var seen []*broker.Record
			for r := tailer.Next(context.Background()); r != nil; r = tailer.Next(context.Background()) {
				seen = append(seen, r)
			}
			ended <- seen
		}()
	}
	probe, _ := b.Log().Tail()
	b.publish("1", true, "t")
	take(t, probe, 1)
	b.stop()
	for range n {
		expect(t, "a tailer of a log that was closed", texts(<-ended), []string{"1"})
	}
	if _, err := b.Append(t.Context(), broker.Publication{Topics: []string{"t"}, Event: event("2"), Store: true}); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("appending to a closed log: %v", err)
	}
	late, _ := b.Log().Tail()
	if r := late.Next(t.Context()); r != nil {
		t.Errorf("a tailer of a closed log gets %q", text(r))
	}
}
