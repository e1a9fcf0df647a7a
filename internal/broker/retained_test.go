package broker_test

import (
	"errors"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/sse"
)

// retainer returns a log that keeps little but what it retains, and a function that retains an event.
func retainer(t testing.TB) (*broker.Log, func(key string, topics ...string)) {
	t.Helper()
	log := broker.NewLog("epoch", 1, time.Hour)
	log.LimitRetained(1 << 30)
	return log, func(key string, topics ...string) {
		if _, err := log.Append(broker.Publication{Topics: topics, Event: sse.Event{Data: "x"}, Store: true, Retain: true, Key: key}); err != nil {
			t.Fatal(err)
		}
	}
}

// What is counted of retained events is no less than the memory that they take, also of tiny ones.
func TestRetainedMemory(t *testing.T) {
	const n = 50_000
	topics := make([]string, 0, 100)
	for i := range cap(topics) {
		topics = append(topics, "shared"+strings.Repeat("x", i%10)+strconv.Itoa(i))
	}
	broker.SortTopics(topics)
	for name, retain := range map[string]func(retain func(key string, topics ...string), i int){
		"a topic for each": func(retain func(string, ...string), i int) { retain("", "t"+strconv.Itoa(i)) },
		"a key for each":   func(retain func(string, ...string), i int) { retain("k"+strconv.Itoa(i), "t") },
		"many topics": func(retain func(string, ...string), i int) {
			if i%len(topics) == 0 {
				retain("k"+strconv.Itoa(i), topics...)
			}
		},
		"all but one topic replaced": func(retain func(string, ...string), i int) {
			if i%len(topics) == 0 {
				names := []string{"u" + strconv.Itoa(i)}
				for _, t := range topics {
					names = append(names, strings.Clone(t)) // as of a request
				}
				retain("", broker.SortTopics(names)...)
			}
		},
		"replaced all the time": func(retain func(string, ...string), i int) {
			retain("k"+strconv.Itoa(i%10_000), "t"+strconv.Itoa(i%10))
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := heap()
			log, one := retainer(t)
			for i := range n {
				retain(one, i)
			}
			took, counted := heap()-before, log.Stats().RetainedBytes
			if took > counted+1<<10 { // the log itself
				t.Errorf("%d events take %d bytes, but %d are counted", log.Stats().Retained, took, counted)
			}
			log.Close()
			runtime.KeepAlive(log)
		})
	}
}

// An event can always take the place of one of its size, also where there is no more room, and although ids grow.
func TestRetainedReplacedWhenFull(t *testing.T) {
	log, retain := retainer(t)
	defer log.Close()
	retain("k", "t")
	log.LimitRetained(log.Stats().RetainedBytes)
	for range 1000 {
		retain("k", "t")
	}
}

// BenchmarkRetain replaces events of one topic in turn, by as many keys: with many it costs as much as with few.
func BenchmarkRetain(b *testing.B) {
	for _, n := range []int{1, 1000, 100_000} {
		b.Run(strconv.Itoa(n)+" keys", func(b *testing.B) {
			_, retain := retainer(b)
			keys := make([]string, n)
			for i := range keys {
				keys[i] = strconv.Itoa(i)
				retain(keys[i], "t")
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				i = (i + 7919) % n
				retain(keys[i], "t")
			}
		})
	}
}

// BenchmarkState is what a client takes at a time of what its topics retain.
func BenchmarkState(b *testing.B) {
	for _, n := range []int{3, 1000, 10_000} {
		b.Run(strconv.Itoa(n)+" topics", func(b *testing.B) {
			log, retain := retainer(b)
			var topics []string
			for i := range n {
				topics = append(topics, "t"+strconv.Itoa(i))
				for key := range 10 {
					retain(strconv.Itoa(key), topics[i])
				}
			}
			last := log.Stats().Last
			b.ReportAllocs()
			for b.Loop() {
				log.State(last/2, last, topics, 0, 64)
			}
		})
	}
}

// TestReserve: the bound holds also where what is on its way replaces something that goes before it comes.
func TestReserve(t *testing.T) {
	log := broker.NewLog("epoch", 1<<20, time.Hour)
	log.LimitRetained(12_000)
	event := func(key string) broker.Publication {
		return broker.Publication{Topics: []string{"t"}, Event: sse.Event{Data: strings.Repeat("x", 5000)}, Store: true, Retain: true, Key: key}
	}
	if _, err := log.Append(event("a")); err != nil {
		t.Fatal(err)
	}
	release, ok := log.Reserve(event("a"))
	if !ok {
		t.Fatal("what replaces another of the same size has room")
	}
	if _, err := log.Append(broker.Publication{Topics: []string{"t"}, Remove: true, Key: "a"}); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(event("b")); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(event("c")); !errors.Is(err, broker.ErrRetainedFull) {
		t.Errorf("the room of what is on its way is given away: %v", err)
	}
	if _, err := log.AppendAt(event("a"), 10, time.Now()); err != nil {
		t.Fatal(err)
	}
	release()
	if bytes := log.Stats().RetainedBytes; bytes > 12_000 {
		t.Errorf("%d bytes are retained", bytes)
	}
}
