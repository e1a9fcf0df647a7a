package broker_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ssegateway/internal/broker"
	"ssegateway/sse"
)

// What was missed is what was stored of the topics, each record once and in order,
// however many of the topics it has.
func TestMissed(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e", "f"}
	rapid.Check(t, func(t *rapid.T) {
		log := broker.NewLog("epoch", 1<<30, time.Hour)
		some := func(label string) []string {
			return broker.SortTopics(rapid.SliceOfN(rapid.SampledFrom(names), 1, 4).Draw(t, label))
		}
		published := make([][]string, 0, 40)
		for range rapid.IntRange(0, 40).Draw(t, "records") {
			topics := some("published to")
			published = append(published, topics)
			if _, err := log.Append(broker.Publication{Topics: topics, Event: sse.Event{Data: "x"}, Store: true}); err != nil {
				t.Fatal(err)
			}
		}
		topics := some("topics")
		after := rapid.IntRange(0, len(published)).Draw(t, "after")
		upto := rapid.IntRange(0, len(published)+2).Draw(t, "up to")
		limit := rapid.IntRange(1, 20).Draw(t, "limit")
		var want, got []uint64
		for n := after + 1; n <= min(upto, len(published)) && len(want) < limit; n++ {
			if slices.ContainsFunc(published[n-1], func(name string) bool { return slices.Contains(topics, name) }) {
				want = append(want, uint64(n))
			}
		}
		missed, reaches := log.Missed(uint64(after), uint64(upto), topics, limit)
		for _, r := range missed {
			got = append(got, r.Offset)
		}
		if !slices.Equal(got, want) || !reaches {
			t.Errorf("missed %v, want %v; reaches %v", got, want, reaches)
		}
	})
}
