package nats

import (
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ssegateway/internal/broker"
	"ssegateway/sse"
)

// restored returns what a node retains that reads these copies.
func restored(copies []copyOf) []string {
	log := broker.NewLog("E", 1<<20, time.Hour)
	log.BeginAt(1 << 20)
	for _, c := range copies {
		log.Restore(c.Publication, c.at)
	}
	return kept(log)
}

// However far tidying comes, what is retained stays the same. When it has come to its end, no event is left
// that is not retained, and no removal without an event that needs it.
func TestSuperfluous(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := &session{prefix: "x", subject: "x.log.E"}
		names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 3, rapid.ID[string])
		var copies []copyOf
		for i := range rapid.IntRange(1, 40).Draw(t, "messages") {
			p := broker.Publication{Topics: broker.SortTopics(names.Draw(t, "topics")), Key: rapid.SampledFrom([]string{"", "k", "l"}).Draw(t, "key")}
			if p.Retain = rapid.IntRange(0, 2).Draw(t, "kind") > 0; p.Retain {
				p.Store, p.Event = true, sse.Event{Data: "x"}
			}
			p.Remove = !p.Retain
			n := uint64(i + 1)
			copies = append(copies, copyOf{p, broker.Position{Epoch: "E", Offset: n}, e.storeSubject(e.subjectOf(p)), n})
		}
		want := restored(copies)
		events, removals := superfluous(copies)
		for _, upto := range []map[string]uint64{events, removals} {
			order := slices.Sorted(maps.Keys(upto))
			for _, subject := range rapid.Permutation(order).Draw(t, "order") {
				for i := 0; i < len(copies); { // NATS purges one after the other, and may be killed
					if c := copies[i]; c.subject == subject && c.sequence <= upto[subject] {
						copies = slices.Delete(slices.Clone(copies), i, i+1)
						if got := restored(copies); !slices.Equal(got, want) {
							t.Fatalf("without %+v %q are retained, want %q", c, got, want)
						}
						continue
					}
					i++
				}
			}
		}
		events, removals = superfluous(copies)
		if len(events)+len(removals) > 0 {
			t.Errorf("%v and %v are left", events, removals)
		}
		retains := 0
		for _, c := range copies {
			if c.Retain {
				retains++
			}
		}
		if retains > len(want) || retains == 0 && len(copies) > 0 {
			t.Errorf("%d messages are left, %d of them events, for %d places", len(copies), retains, len(want))
		}
	})
}
