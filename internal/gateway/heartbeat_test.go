package gateway_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/bubble"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/outbox"
	"ssegateway/sse"
)

// A stream begins with a heartbeat. The next one comes after between half an interval and a
// whole one, and then one comes every interval.
func TestHeartbeats(t *testing.T) {
	for _, interval := range []time.Duration{time.Second, 15 * time.Second, time.Hour} {
		t.Run(interval.String(), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				s := newSite(func(cfg *gateway.Config) { cfg.Heartbeat = interval })
				s.run(t)
				ticks := min(interval/(100*time.Millisecond), 4096) // in a turn
				tick := interval / ticks
				opened := map[*tape]time.Time{}
				for i := range 100 {
					time.Sleep(time.Duration(i%7) * interval / 50) // fake clock
					_, tp := s.open(t, plenty)
					opened[tp] = time.Now()
				}
				time.Sleep(5 * interval) // fake clock
				synctest.Wait()
				for tp, at := range opened {
					first := tp.times[0].Sub(at)
					if first < interval/2-tick || first > interval {
						t.Errorf("the first heartbeat came after %v", first)
					}
					for i, at := range tp.times[1:] {
						if gap := at.Sub(tp.times[i]); gap > interval || gap <= interval-ticks {
							t.Errorf("heartbeat %d came after %v", i+1, gap)
						}
					}
					if got := tp.written(); got != strings.Repeat(sse.Heartbeat, len(tp.times)) || len(tp.times) < 4 {
						t.Errorf("written %q", got)
					}
				}
			})
		})
	}
}

// Streams that open together do not beat together.
func TestHeartbeatsAreSpread(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSite(func(cfg *gateway.Config) { cfg.Heartbeat = 10 * time.Second })
		s.run(t)
		const streams = 10000
		perTick := map[time.Duration]int{}
		var tapes []*tape
		start := time.Now()
		for range streams {
			_, tp := s.open(t, plenty)
			tapes = append(tapes, tp)
		}
		time.Sleep(10 * time.Second) // fake clock
		synctest.Wait()
		for _, tp := range tapes {
			perTick[tp.times[0].Sub(start)]++
		}
		// The heartbeats are spread over 50 ticks, with about 200 streams each.
		const mean = streams / 50
		spread := 6 * math.Sqrt(mean)
		for at, n := range perTick {
			if math.Abs(float64(n-mean)) > spread {
				t.Errorf("%d streams beat at %v, want about %d", n, at, mean)
			}
		}
		if len(perTick) != 50 {
			t.Errorf("there were heartbeats in %d ticks, want 50", len(perTick))
		}
	})
}

// A stream's first bytes are written together with its head. If there is nothing else to begin
// with, they are a heartbeat, unless the stream ends at once.
func TestFirstBytes(t *testing.T) {
	const head, buffered = "HEAD\n\n", "data: " + "\x00\x00\n\n"
	for name, test := range map[string]struct {
		grant   gateway.Grant
		prepare func(c *gateway.Conn)
		want    []string // the writes
		beats   uint64
	}{
		"nothing":  {want: []string{head + sse.Heartbeat}, beats: 1},
		"subject":  {grant: gateway.Grant{Subject: "s", Overflow: outbox.Latest}, want: []string{head + sse.Heartbeat}, beats: 1},
		"retry":    {grant: gateway.Grant{Retry: sse.RetryMillis(0)}, want: []string{head + "retry: 0\n\n"}},
		"topics":   {grant: gateway.Grant{Topics: []string{"t"}}, want: []string{head + "id: E-0\n\n"}},
		"both":     {grant: gateway.Grant{Topics: []string{"t"}, Retry: sse.RetryMillis(5)}, want: []string{head + "retry: 5\nid: E-0\n\n"}},
		"events":   {grant: gateway.Grant{Events: []sse.Event{{Data: "1"}, {Data: "2"}}}, want: []string{head + "data: 1\n\ndata: 2\n\n"}},
		"buffered": {prepare: func(c *gateway.Conn) { c.Send(eventOf(t, 10), false, nil) }, want: []string{head + buffered}},
		"all": {
			gateway.Grant{Topics: []string{"t"}, Retry: sse.RetryMillis(5), Events: []sse.Event{{Data: "1"}}},
			func(c *gateway.Conn) { c.Send(eventOf(t, 10), false, nil); c.Send(eventOf(t, 10), false, nil) },
			[]string{head + "retry: 5\nid: E-0\n\ndata: 1\n\n" + buffered + buffered},
			0,
		},
		"closed":            {prepare: func(c *gateway.Conn) { c.Send(frame.Frame{}, true, nil) }, want: []string{head}},
		"an event, closed":  {prepare: func(c *gateway.Conn) { c.Send(eventOf(t, 10), true, nil) }, want: []string{head + buffered}},
		"an event, granted": {gateway.Grant{Events: []sse.Event{{Data: "1"}}}, func(c *gateway.Conn) { c.Send(frame.Frame{}, true, nil) }, []string{head + "data: 1\n\n"}, 0},
	} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, chunked %v", name, chunked), func(t *testing.T) {
				s := newSite(nil)
				c := s.connect(t)
				if test.prepare != nil {
					test.prepare(c)
				}
				tp := &tape{conn: c, room: plenty, chunked: chunked, full: true}
				if !c.Open(tp, frame.Head([]byte(head)), test.grant) {
					t.Fatal("the connection did not open")
				}
				var writes []string
				for _, w := range tp.writes {
					if chunked {
						chunks, isFirst := strings.CutPrefix(w, head)
						w = unchunk(t, chunks)
						if isFirst {
							w = head + w
						}
					}
					if w != "" { // otherwise it is the end
						writes = append(writes, s.epoch(w))
					}
				}
				if !slices.Equal(writes, test.want) {
					t.Errorf("written %q, want %q", writes, test.want)
				}
				if n := s.gw.Stats().Heartbeats.Load(); n != test.beats {
					t.Errorf("%d heartbeats counted, want %d", n, test.beats)
				}
				if n := s.gw.Stats().Bytes.Load(); n != uint64(len(strings.Join(tp.writes, ""))) {
					t.Errorf("%d bytes counted, want %d", n, len(strings.Join(tp.writes, "")))
				}
			})
		}
	}
}

// The same holds for a stream that writes in a goroutine of its own.
func TestFirstBytesPumped(t *testing.T) {
	s := newSite(nil)
	for buffered, want := range []string{sse.Heartbeat, "data: \x00\x00\n\n", "data: \x00\x00\n\ndata: \x00\x00\n\n"} {
		c := s.connect(t)
		for range buffered {
			c.Send(eventOf(t, 10), false, nil)
		}
		stream := &heldPump{conn: c, work: make(chan struct{}, 1)}
		if !c.Open(stream, frame.Head([]byte("HEAD")), gateway.Grant{}) {
			t.Fatal("the connection did not open")
		}
		var writes []string
		c.Pump(stream, func(p []byte) gateway.Detail {
			writes = append(writes, string(p))
			return 0
		})
		if !slices.Equal(writes, []string{"HEAD" + want}) {
			t.Errorf("written %q, want %q in one write", writes, "HEAD"+want)
		}
		c.Abort(gateway.ClientClosed, 0)
	}
	s.expectNothingLeft(t)
}

// unchunk returns the content of chunks.
func unchunk(t *testing.T, chunks string) (inside string) {
	t.Helper()
	for chunks != "" && chunks != "0\r\n\r\n" {
		var n int
		if _, err := fmt.Sscanf(chunks, "%x\r\n", &n); err != nil {
			t.Fatalf("%q: %v", chunks, err)
		}
		_, rest, _ := strings.Cut(chunks, "\r\n")
		inside, chunks = inside+rest[:n], rest[n+2:]
	}
	return inside
}

// There is no heartbeat while other bytes wait, after a close, or before what was buffered.
func TestNoHeartbeat(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSite(func(cfg *gateway.Config) { cfg.Heartbeat = time.Second })
		s.run(t)
		lagging, slow := s.open(t, 10)
		lagging.Send(eventOf(t, 50), false, nil)
		closing, slower := s.open(t, 10)
		closing.Send(eventOf(t, 50), true, nil)
		pending := s.connect(t)
		pending.Send(eventOf(t, 20), false, nil)
		time.Sleep(5*time.Second + 50*time.Millisecond) // fake clock: between two ticks
		if n := s.gw.Stats().Heartbeats.Load(); n != 2 {
			t.Errorf("%d heartbeats, want only the two with which two streams began", n)
		}
		slow.takes(plenty)
		slower.takes(plenty)
		late := &tape{conn: pending, room: plenty}
		pending.Open(late, frame.Head([]byte("HEAD")), gateway.Grant{})
		time.Sleep(time.Second) // fake clock
		synctest.Wait()
		for i, got := range []struct {
			tape *tape
			want string
		}{
			{slow, "data: " + zeros(42) + "\n\n" + sse.Heartbeat},
			{slower, "data: " + zeros(42) + "\n\n"},
			{late, "HEADdata: " + zeros(12) + "\n\n" + sse.Heartbeat},
		} {
			if wire := got.tape.written(); wire != got.want {
				t.Errorf("stream %d: written %q, want %q", i, wire, got.want)
			}
		}
		if closed, aborted := slower.state(); !closed || aborted {
			t.Error("the closed stream did not end")
		}
		if got := fmt.Sprint(s.ends()); got != "[server_closed/]" {
			t.Errorf("ends: %s", got)
		}
	})
}
