package brokertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ssegateway/internal/broker"
)

// retaining is a running engine, and a tailer of its log. The cases look at the log when the tailer
// has come to what they appended, since an engine may read it back.
type retaining struct {
	*bench
	tailer *broker.Tailer
}

func (s Suite) retaining(t *testing.T, maxBytes, retainedBytes int64) *retaining {
	b := run(t, s.Open(t, Bounds{maxBytes, forLong, retainedBytes}))
	tailer, _ := b.Log().Tail()
	return &retaining{b, tailer}
}

// append appends p and waits until the log has it.
func (r *retaining) append(p broker.Publication) *broker.Record {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	at, err := r.Append(ctx, p)
	if err != nil {
		r.t.Fatalf("append %+v: %v", p, err)
	}
	records := take(r.t, r.tailer, 1)
	if len(records) == 0 || records[0].Offset != at.Offset {
		r.t.Fatalf("appended at %v, but read %+v", at, records)
	}
	return records[0]
}

func (r *retaining) retain(text, key string, topics ...string) *broker.Record {
	r.t.Helper()
	return r.append(broker.Publication{Topics: topics, Event: event(text), Store: true, Retain: true, Key: key})
}

// remove returns how many events were removed.
func (r *retaining) remove(key string, topics ...string) int {
	r.t.Helper()
	return int(r.append(broker.Publication{Topics: topics, Remove: true, Key: key}).Removed)
}

func (r *retaining) expect(what string, topics []string, want ...string) {
	r.t.Helper()
	expect(r.t, what, texts(r.Log().State(0, r.Log().Position().Offset, topics, 0, 1000)), want)
}

// Of each topic and key the last is retained, until it is removed.
func testRetained(t *testing.T, s Suite) {
	b := s.retaining(t, plenty, plenty)
	all := []string{"a", "b", "c"}
	b.expect("nothing", all)
	b.publish("not retained", true, "a")
	take(t, b.tailer, 1)
	b.retain("1", "", "a", "b")
	b.retain("2", "k", "a")
	b.expect("both", all, "1", "2")
	b.expect("those of b", []string{"b"}, "1")
	third := b.retain("3", "", "a")
	b.expect("1 is that of b still", all, "1", "2", "3")
	b.expect("those of a", []string{"a"}, "2", "3")
	expect(t, "up to before the last", texts(b.Log().State(0, third.Offset-1, []string{"a"}, 0, 10)), []string{"2"})
	b.retain("4", "", "b", "c")
	b.expect("1 is gone", all, "2", "3", "4")
	if n := b.remove("k", "a", "b"); n != 1 {
		t.Errorf("%d were removed of the key k, want 1", n)
	}
	b.expect("without that of k", all, "3", "4")
	b.retain("5", "k", "b")
	if n := b.remove("", "b"); n != 2 {
		t.Errorf("%d were removed of b, want 2", n)
	}
	b.expect("4 is that of c still", all, "3", "4")
	b.expect("nothing of b", []string{"b"})
	if n := b.remove("", "a", "b", "c"); n != 2 {
		t.Errorf("%d were removed in the end, want 2", n)
	}
	b.expect("nothing at the end", all)
	if stats := b.Log().Stats(); stats.Retained != 0 || stats.RetainedBytes != 0 {
		t.Errorf("%d events are retained, of %d bytes", stats.Retained, stats.RetainedBytes)
	}
}

// State and Retained, held to their definitions.
func testRetainedModel(t *testing.T, s Suite) {
	b := s.retaining(t, plenty, plenty)
	random := rand.New(rand.NewPCG(3, 4))
	names := []string{"a", "b", "c", "d"}
	choice := func() []string {
		return slices.DeleteFunc(slices.Clone(names), func(string) bool { return random.IntN(3) > 0 })
	}
	type place struct{ topic, key string }
	retained := map[place]*broker.Record{}
	var stored []*broker.Record
	for i := range 600 {
		topics, key := choice(), []string{"", "k", "l", "m"}[random.IntN(4)]
		switch n := random.IntN(12); {
		case len(topics) == 0:
			continue
		case n == 0:
			want := len(retained)
			maps.DeleteFunc(retained, func(p place, _ *broker.Record) bool {
				return slices.Contains(topics, p.topic) && (key == "" || p.key == key)
			})
			if got := b.remove(key, topics...); got != want-len(retained) {
				t.Fatalf("%d were removed of %q in %q, want %d", got, key, topics, want-len(retained))
			}
		case n < 7:
			r := b.retain(strconv.Itoa(i), key, topics...)
			for _, topic := range topics {
				retained[place{topic, key}] = r
			}
			stored = append(stored, r)
		default:
			stored = append(stored, b.append(broker.Publication{Topics: topics, Event: event(strconv.Itoa(i)), Store: true}))
		}
		last := b.Log().Position().Offset
		for range 5 {
			topics, rewind, limit := choice(), random.IntN(4), 1+random.IntN(8)
			after, upto := random.Uint64N(last+2), random.Uint64N(last+2)
			if random.IntN(2) == 0 {
				after, upto = 0, last
			}
			var want []string
			found := 0 // also up to after
			newest := map[string]int{}
			for _, r := range slices.Backward(stored) {
				wanted := false
				for _, topic := range r.Topics {
					if r.Offset <= upto && slices.Contains(topics, topic) {
						newest[topic]++
						wanted = wanted || newest[topic] <= rewind
						for p, kept := range retained {
							wanted = wanted || p.topic == topic && kept == r
						}
					}
				}
				if wanted {
					found++
				}
				if wanted && r.Offset > after {
					want = append(want, text(r))
				}
			}
			slices.Reverse(want)
			what := fmt.Sprintf("of %q behind %d up to %d, and the newest %d", topics, after, upto, rewind)
			expect(t, what, texts(b.Log().State(after, upto, topics, rewind, limit)), want[:min(limit, len(want))])
			if has := b.Log().HasState(upto, topics, rewind); has != (found > 0) {
				t.Fatalf("HasState(%d, %q, %d) = %v of %d", upto, topics, rewind, has, found)
			}
		}
		b.expectListed("", len(retained))
		topic := names[random.IntN(len(names))]
		n := 0
		for p := range retained {
			if p.topic == topic {
				n++
			}
		}
		b.expectListed(topic, n)
	}
	for _, r := range b.listed("", 1000) {
		if retained[place{r.Topic, r.Key}] != r.Record {
			t.Errorf("the list has %q of %s, %s", text(r.Record), r.Topic, r.Key)
		}
	}
}

// listed reads the whole list in pages.
func (r *retaining) listed(topic string, limit int) (all []broker.Retained) {
	var at broker.RetainedCursor
	for {
		list, next, more := r.Log().Retained(topic, at, limit, 1000)
		all = append(all, list...)
		if !more {
			return all
		}
		if len(list) == 0 {
			r.t.Fatal("an empty page before the last")
		}
		at = next
	}
}

// expectListed expects so many events in the list, in the order of offsets and topics.
func (r *retaining) expectListed(topic string, want int) {
	r.t.Helper()
	all := r.listed(topic, 3)
	if len(all) != want {
		r.t.Fatalf("%d events are listed of the topic %q, want %d", len(all), topic, want)
	}
	for i := 1; i < len(all); i++ {
		before, e := all[i-1], all[i]
		if e.Record.Offset < before.Record.Offset || e.Record.Offset == before.Record.Offset && e.Topic <= before.Topic {
			r.t.Fatalf("%+v comes behind %+v", e, before)
		}
	}
}

// What is retained stays when the log has trimmed it. A removal trims nothing.
func testRetainedBeyondTheLog(t *testing.T, s Suite) {
	b := s.retaining(t, 5000, plenty)
	b.retain("kept", "", "t")
	b.retain("also kept", "k", "t", "u")
	for i := range 20 {
		b.append(broker.Publication{Topics: []string{"t"}, Event: event(strings.Repeat("x", 1000) + strconv.Itoa(i)), Store: true})
	}
	if missed, reaches := b.Log().Missed(0, b.Log().Position().Offset, []string{"u"}, 10); len(missed) > 0 || reaches {
		t.Fatal("the log has not trimmed its beginning")
	}
	b.expect("what was trimmed", []string{"t"}, "kept", "also kept")
	before := b.Log().Stats()
	b.remove("", "t")
	after := b.Log().Stats()
	if after.Trimmed != before.Trimmed || after.Events != before.Events || after.Last <= before.Last {
		t.Errorf("a removal made %+v of %+v", after, before)
	}
	b.expect("the other topic's", []string{"t", "u"}, "also kept")
}

// An event for which there is no room is not added at all.
func testRetainedFull(t *testing.T, s Suite) {
	const bound = 9_000
	b := s.retaining(t, plenty, bound)
	filler := strings.Repeat("x", 1000)
	n := 0
	for ; n < 100; n++ {
		before := b.Log().Stats()
		_, err := b.Append(t.Context(), broker.Publication{Topics: []string{"t", "u"}, Event: event(filler), Store: true, Retain: true, Key: strconv.Itoa(n)})
		if errors.Is(err, broker.ErrRetainedFull) {
			if after := b.Log().Stats(); after != before {
				t.Errorf("an event that was refused made %+v of %+v", after, before)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		take(t, b.tailer, 1)
		if stats := b.Log().Stats(); stats.RetainedBytes > bound || stats.Retained != 2*(n+1) {
			t.Fatalf("%d events are retained, of %d bytes; the bound is %d", stats.Retained, stats.RetainedBytes, bound)
		}
	}
	if n < 3 || n > 9 {
		t.Errorf("%d events of 1000 bytes have room in %d bytes", n, bound)
	}
	b.append(broker.Publication{Topics: []string{"t"}, Event: event("not retained"), Store: true})
	b.retain(filler, "0", "t", "u") // takes the place of another of its size
	if _, err := b.Append(t.Context(), broker.Publication{Topics: []string{"t"}, Event: event(filler), Store: true, Retain: true, Key: "0"}); !errors.Is(err, broker.ErrRetainedFull) {
		t.Errorf("an event that takes the place of half of another: %v", err)
	}
	before := b.Log().Stats()
	b.retain("small", "0", "t", "u")
	if after := b.Log().Stats(); after.RetainedBytes >= before.RetainedBytes || after.Retained != before.Retained {
		t.Errorf("a smaller event made %+v of %+v", after, before)
	}
	if removed := b.remove("", "t", "u"); removed != 2*n {
		t.Errorf("%d were removed of %d", removed, 2*n)
	}
	if stats := b.Log().Stats(); stats.RetainedBytes != 0 {
		t.Errorf("%d bytes of nothing", stats.RetainedBytes)
	}
	b.retain(filler, "new", "t")
}

// A removal has an offset and its place in the order, and is for no topic. It takes effect there: what comes behind it
// is retained.
func testRemoval(t *testing.T, s Suite) {
	b := s.retaining(t, plenty, plenty)
	const n = 50
	var before uint64
	for i := range n {
		kept := b.retain(strconv.Itoa(i), "", "t")
		removal := b.append(broker.Publication{Topics: []string{"t"}, Remove: true, Ref: 7})
		if kept.Offset <= before || removal.Offset <= kept.Offset || removal.Stored || len(removal.Topics) > 0 || removal.Ref != 7 || removal.Seq != kept.Seq+1 {
			t.Fatalf("behind %d come %+v and %+v", before, kept, removal)
		}
		if at := b.Log().Position(); at.Offset != removal.Offset {
			t.Fatalf("behind the removal at %d the log is at %v", removal.Offset, at)
		}
		before = removal.Offset
	}
	b.expect("all are removed", []string{"t"})
	b.retain("last", "", "t")
	b.expect("the last", []string{"t"}, "last")
	missed, reaches := b.Log().Missed(0, b.Log().Position().Offset, []string{"t"}, 2*n)
	if !reaches {
		t.Error("removals are taken for a loss")
	}
	expect(t, "the log", texts(missed), append(numbers(0, n-1), "last"))
}
