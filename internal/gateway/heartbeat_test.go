package gateway_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/sse"
)

// The first heartbeat comes after half an interval to a whole one, the next ones
// an interval later each.
func TestHeartbeats(t *testing.T) {
	for _, interval := range []time.Duration{time.Second, 15 * time.Second, time.Hour} {
		t.Run(interval.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
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
	synctest.Test(t, func(t *testing.T) {
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
		// 50 ticks are left of the interval: about 200 streams each.
		const mean = streams / 50
		spread := 6 * math.Sqrt(mean)
		for at, n := range perTick {
			if math.Abs(float64(n-mean)) > spread {
				t.Errorf("%d streams beat at %v, about %d expected", n, at, mean)
			}
		}
		if len(perTick) != 50 {
			t.Errorf("heartbeats in %d ticks, of 50", len(perTick))
		}
	})
}

// Where bytes wait already they are the better heartbeat; behind a close there
// is none, nor before what was buffered.
func TestNoHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(func(cfg *gateway.Config) { cfg.Heartbeat = time.Second })
		s.run(t)
		lagging, slow := s.open(t, 10)
		lagging.Send(eventOf(t, 50), false, nil)
		closing, slower := s.open(t, 10)
		closing.Send(eventOf(t, 50), true, nil)
		pending := s.connect(t)
		pending.Send(eventOf(t, 20), false, nil)
		time.Sleep(5*time.Second + 50*time.Millisecond) // fake clock: between two ticks
		if n := s.gw.Stats().Heartbeats.Load(); n != 0 {
			t.Errorf("%d heartbeats", n)
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
