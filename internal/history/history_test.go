package history

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/bubble"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
)

// recorder is a connection that notes which points it gets.
type recorder struct {
	mu      sync.Mutex
	opened  []string // of each event
	writes  int
	full    bool
	aborted bool
}

func (r *recorder) Send(f frame.Frame, _ bool, _ chan<- error) gateway.Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full {
		return gateway.Full
	}
	r.writes++
	for block := range strings.SplitSeq(strings.TrimSuffix(string(f.Wire(false)), "\n\n"), "\n\n") {
		_, rest, _ := strings.Cut(block, `"streams_opened":`)
		n, _, _ := strings.Cut(rest, ",")
		r.opened = append(r.opened, n)
	}
	return gateway.Sent
}

func (r *recorder) fill(full bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.full = full
}

func (r *recorder) Abort(gateway.Reason, gateway.Detail) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.aborted = true
}

// got returns the points so far, in how many writes they came, and whether the connection was cut.
func (r *recorder) got() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprint(r.opened, r.writes, r.aborted)
}

func running(t *testing.T, f func(h *History)) {
	bubble.Test(t, func(t *testing.T) {
		n := uint64(0)
		h := New(func() Counts {
			n++
			return Counts{Opened: n}
		})
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { _ = h.Run(ctx) })
		synctest.Wait()
		f(h)
		cancel()
		done.Wait()
	})
}

func wait(d time.Duration) {
	time.Sleep(d) // fake clock
	synctest.Wait()
}

// The ring holds a quarter of an hour; what is older is gone, and no more is given than is asked for.
func TestPoints(t *testing.T) {
	running(t, func(h *History) {
		if got := h.Points(Length); len(got) != 1 {
			t.Errorf("%d points at the start", len(got))
		}
		wait(Length)
		for d, n := range map[time.Duration]int{0: 0, Interval - 1: 0, Interval: 1, time.Minute: 12, Length: 180, 2 * Length: 180} {
			got := h.Points(d)
			if len(got) != n {
				t.Fatalf("%v: %d points, want %d", d, len(got), n)
			}
			for i, p := range got {
				if want := uint64(182 - n + i + 1); p.counts.Opened != want {
					t.Fatalf("%v: the point %d is %d, want %d", d, i, p.counts.Opened, want)
				}
			}
		}
		all := h.Points(Length)
		if got := all[179].time.Sub(all[0].time); got != 179*Interval {
			t.Errorf("from the first to the last: %v", got)
		}
	})
}

// Who follows gets what there is in one piece, then every point once, until the connection takes no more.
func TestFollow(t *testing.T) {
	running(t, func(h *History) {
		wait(4 * Interval) // 2 to 6
		var two, none recorder
		h.Follow(&two, 2*Interval)
		h.Follow(&none, 0)
		synctest.Wait()
		if two.got() != "[5 6] 1 false" || none.got() != "[] 0 false" {
			t.Errorf("%s, %s", two.got(), none.got())
		}
		wait(2 * Interval)
		if two.got() != "[5 6 7 8] 3 false" || none.got() != "[7 8] 2 false" {
			t.Errorf("%s, %s", two.got(), none.got())
		}
		two.fill(true)
		wait(Interval)
		two.fill(false)
		wait(Interval)
		if two.got() != "[5 6 7 8] 3 true" || none.got() != "[7 8 9 10] 4 false" {
			t.Errorf("%s, %s", two.got(), none.got())
		}
	})
}

func TestQuantile(t *testing.T) {
	for _, c := range []struct {
		buckets     [len(Bounds)]uint64
		count       uint64
		median, p99 float64
	}{
		{},
		{[len(Bounds)]uint64{10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10}, 10, .0005, .00099},
		{[len(Bounds)]uint64{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 3, 5, 5}, // all took longer
		{[len(Bounds)]uint64{0, 0, 0, 50, 100, 100, 100, 100, 100, 100, 100, 100}, 100, .01, .0247},
	} {
		p := pointOf(time.Time{}, Counts{Callbacks: [len(actionNames)]Attempts{Disconnect: {Count: c.count + 5, Buckets: add(c.buckets, 5)}}},
			Counts{Callbacks: [len(actionNames)]Attempts{Disconnect: {Count: 5, Buckets: add([len(Bounds)]uint64{}, 5)}}})
		if got := p.latency[Disconnect]; got != (latency{c.median, c.p99}) {
			t.Errorf("%v: %v", c, got)
		}
		if p.latency[Connect] != (latency{}) {
			t.Errorf("connects: %v", p.latency[Connect])
		}
	}
}

func add(buckets [len(Bounds)]uint64, n uint64) [len(Bounds)]uint64 {
	for i := range buckets {
		buckets[i] += n
	}
	return buckets
}

func TestJSON(t *testing.T) {
	c := Counts{
		Pending: 1, Open: 2, Opened: 3, Events: 4, Bytes: 5, Queued: 6, Dropped: 7, Gaps: 8, Published: 9,
		Callbacks: [len(actionNames)]Attempts{Connect: {Count: 10, Failed: 11}},
	}
	c.Closed[gateway.ClientClosed] = 12
	c.Edge[1] = 13
	const want = `{"time":"2026-01-31T12:00:05Z","connections":{"pending":1,"open":2},"streams_opened":3,` +
		`"connections_closed":{"client_closed":12,"error":0,"server_closed":0},"events_written":4,"bytes_written":5,"bytes_queued":6,"events_dropped":7,"gaps":8,"events_published":9,` +
		`"callbacks":{"connect":{"attempts":10,"failed":11,"p50_seconds":0,"p99_seconds":0},"disconnect":{"attempts":0,"failed":0,"p50_seconds":0,"p99_seconds":0}},` +
		`"edge_connections":{"answer":0,"body":0,"handler":0,"handshake":13,"header":0,"http2":0,"idle":0,"new":0}}`
	if got := string(pointOf(time.Date(2026, 1, 31, 12, 0, 5, 9, time.UTC), c, c).JSON()); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// What every Interval costs while somebody follows.
func BenchmarkPoint(b *testing.B) {
	h := New(func() Counts { return Counts{} })
	b.ReportAllocs()
	for b.Loop() {
		_ = h.take().event()
	}
}
