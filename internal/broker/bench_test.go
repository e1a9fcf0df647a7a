package broker_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/sse"
)

func publication(topics ...string) broker.Publication {
	return broker.Publication{Topics: topics, Event: sse.Event{Data: strings.Repeat("x", 256)}, Store: true}
}

// fullLog returns a log that trims a record for each that comes.
func fullLog(t testing.TB, topics int) (*broker.Log, func()) {
	t.Helper()
	log := broker.NewLog("epoch", 1<<20, time.Hour)
	var all []broker.Publication
	for n := range topics {
		all = append(all, publication("common", "t"+strconv.Itoa(n)))
	}
	n := 0
	appendOne := func() {
		n++
		if _, err := log.Append(all[n%topics]); err != nil {
			t.Fatal(err)
		}
	}
	for range 10_000 {
		appendOne()
	}
	return log, appendOne
}

// An append allocates the record, its link and its frame, its position as text, and
// now and then more room in the indexes.
func TestAppendAllocations(t *testing.T) {
	_, appendOne := fullLog(t, 10)
	if n := testing.AllocsPerRun(1000, appendOne); n > 4 {
		t.Errorf("%v allocations", n)
	}
}

// What a client missed is a list of what is there: nothing of it is copied.
func TestMissedAllocations(t *testing.T) {
	log, _ := fullLog(t, 10)
	topics, last := []string{"t1", "t2", "t3"}, log.Stats().Last
	if n := testing.AllocsPerRun(1000, func() {
		if missed, _ := log.Missed(last-1000, last, topics, 64); len(missed) != 64 {
			t.Errorf("%d records", len(missed))
		}
	}); n > 10 { // the lists grow
		t.Errorf("%v allocations for 64 records", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	_, appendOne := fullLog(b, 100)
	b.ReportAllocs()
	for b.Loop() {
		appendOne()
	}
}

// BenchmarkMissed is what a replay takes of the log at a time.
func BenchmarkMissed(b *testing.B) {
	for _, n := range []int{3, 1000} {
		b.Run(strconv.Itoa(n)+" topics", func(b *testing.B) {
			log, _ := fullLog(b, n)
			var topics []string
			for i := range n {
				topics = append(topics, "t"+strconv.Itoa(i))
			}
			last := log.Stats().Last
			b.ReportAllocs()
			for b.Loop() {
				log.Missed(last-1000, last, topics, 64)
			}
		})
	}
}
