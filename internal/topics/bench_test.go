package topics

import (
	"strconv"
	"testing"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/sse"
)

// BenchmarkNewState looks whether a new member of 10,000 topics has a state, where all of them, none or the last retain
// an event. The log and the shard are locked meanwhile.
func BenchmarkNewState(b *testing.B) {
	const n = 10_000
	for _, first := range []int{0, n - 1, n} {
		b.Run(strconv.Itoa(n-first)+" retain", func(b *testing.B) {
			log := broker.NewLog(broker.NewEpoch(), 64<<20, time.Hour)
			log.LimitRetained(64 << 20)
			names := make([]string, n)
			for i := range names {
				names[i] = "topic." + strconv.Itoa(i)
				topics := []string{names[i], "other." + strconv.Itoa(i)}
				if i < first {
					topics = topics[1:]
				}
				if _, err := log.Append(broker.Publication{Topics: topics, Event: sse.Event{Data: "x"}, Store: true, Retain: true}); err != nil {
					b.Fatal(err)
				}
			}
			upto := log.Position().Offset
			b.ReportAllocs()
			for b.Loop() {
				newState(log, names, upto, 10)
			}
		})
	}
}
