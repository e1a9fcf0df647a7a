package broker_test

import (
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"ssegateway/internal/broker"
	"ssegateway/internal/broker/brokertest"
	"ssegateway/internal/bubble"
	"ssegateway/sse"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	brokertest.Run(t, brokertest.Suite{
		Open: func(_ testing.TB, bounds brokertest.Bounds) broker.Engine {
			m := broker.NewMemory(bounds.MaxBytes, bounds.MaxAge)
			m.LimitRetained(bounds.RetainedBytes)
			return m
		},
		Within: bubble.Test,
	})
}

// The age is kept to the second.
func TestMemoryAge(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		m := broker.NewMemory(1<<20, 10*time.Minute)
		over := make(chan error)
		go func() { over <- m.Run(t.Context()) }()
		t.Cleanup(func() {
			if err := <-over; err != nil {
				t.Error(err)
			}
		})
		_, _ = m.Append(t.Context(), broker.Publication{Topics: []string{"t"}, Store: true})
		time.Sleep(10*time.Minute - time.Millisecond) // fake clock
		synctest.Wait()
		if m.Log().Stats().Events != 1 {
			t.Error("trimmed too early")
		}
		time.Sleep(time.Second + 2*time.Millisecond) // fake clock
		synctest.Wait()
		if m.Log().Stats().Events != 0 {
			t.Error("kept too long")
		}
	})
}

// A log that was replaced, and is kept for what it has stored, keeps nothing of what is
// published after it. Who follows it, however far behind, goes on with all of that.
func TestReplacedLogKeepsNothing(t *testing.T) {
	const events, size = 100, 100 << 10
	old, next := broker.NewLog("a", 1<<20, time.Hour), broker.NewLog("b", 1<<20, time.Hour)
	before := heap()
	publish := func() {
		for range events {
			if _, err := next.Append(broker.Publication{Topics: []string{"t"}, Event: sse.Event{Data: strings.Repeat("x", size)}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	follow := func(late *broker.Tailer) {
		if late.Next(t.Context()) != nil {
			t.Fatal("there is a record in an empty log")
		}
		late = late.Replacement().Tailer
		for n := range events {
			if r := late.Next(t.Context()); r == nil || r.Seq != uint64(n+1) {
				t.Fatalf("record %d of the next log is %v", n+1, r)
			}
		}
	}
	func() {
		late, _ := old.Tail()
		old.ReplaceWith(next)
		publish()
		follow(late)
	}()
	publish()
	if grown := heap() - before; grown > events*size/10 {
		t.Errorf("%d bytes are kept of %d that nobody follows", grown, 2*events*size)
	}
	if tailer, _ := old.Tail(); tailer != nil {
		t.Error("a log that was replaced can be followed from now on")
	}
	runtime.KeepAlive(old)
}

// What nobody follows and nobody is to have later takes no memory.
func TestUnstoredIsForgotten(t *testing.T) {
	log := broker.NewLog("e", 1<<20, time.Hour)
	data := strings.Repeat("x", 10000)
	append10MB := func() {
		for n := range 1000 {
			if _, err := log.Append(broker.Publication{Topics: []string{"t"}, Event: sse.Event{Data: data}, Store: n%100 == 0}); err != nil {
				t.Fatal(err)
			}
		}
	}
	append10MB()
	before := heap()
	for range 10 {
		append10MB()
	}
	if grown := heap() - before; grown > 2<<20 {
		t.Errorf("100 MB went through a log of 1 MiB, and %d bytes stayed", grown)
	}
	runtime.KeepAlive(log)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A log's bytes are what it says they are: what comes and goes leaves nothing.
func TestTrimLeavesNothing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		log := broker.NewLog("e", 1<<20, time.Minute)
		for n := range 100 {
			topics := broker.SortTopics([]string{"a", "b", strings.Repeat("c", n%7+1)})
			_, _ = log.Append(broker.Publication{Topics: topics, Event: sse.Event{Data: strings.Repeat("x", n)}, Store: n%3 > 0})
			time.Sleep(time.Second) // fake clock
		}
		time.Sleep(time.Minute) // fake clock
		log.Trim()
		if s := log.Stats(); s.Bytes != 0 || s.Events != 0 || s.Oldest != s.Last+1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestPosition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := broker.Position{Epoch: rapid.StringMatching(`[A-Za-z0-9]{1,20}`).Draw(t, "epoch"), Offset: rapid.Uint64().Draw(t, "offset")}
		if back, ok := broker.ParsePosition(p.String()); !ok || back != p {
			t.Errorf("%v is read as %v, %v", p, back, ok)
		}
		if s := rapid.String().Draw(t, "garbage"); s != "" {
			if p, ok := broker.ParsePosition(s); ok && p.String() != s {
				t.Errorf("%q is read as %v", s, p)
			}
		}
	})
	for _, s := range []string{
		"", "-", "-1", "e", "e-", "e--1", "e-+1", "e-01", "e-1 ", " e-1 ", "e-18446744073709551616", "e-0x1", "e-1-2", "e-1_0", "E-١", "1", "0",
	} {
		if p, ok := broker.ParsePosition(s); ok {
			t.Errorf("%q is read as %v", s, p)
		}
	}
}

func TestNormalize(t *testing.T) {
	got := broker.SortTopics([]string{"b", "a", "b", "", "a"})
	if strings.Join(got, ",") != ",a,b" {
		t.Errorf("%q", got)
	}
}
