package gateway_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/bubble"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
)

// sweep is the time between two searches for stalled clients, and so the precision of the
// deadline.
const sweep = 500 * time.Millisecond

// expectStalled lets time pass until the stream is cut, which has to be when the deadline after
// the last progress is over.
func expectStalled(t *testing.T, s site, tp *tape, progress time.Time) {
	t.Helper()
	time.Sleep(time.Until(progress.Add(gateway.StallDeadline - time.Millisecond))) // fake clock
	if closed, _ := tp.state(); closed {
		t.Fatalf("cut %v after the last progress", tp.closedAt.Sub(progress))
	}
	time.Sleep(2*sweep + 2*time.Millisecond) // fake clock
	if closed, aborted := tp.state(); !closed || !aborted {
		t.Fatalf("closed %v, aborted %v %v after the last progress", closed, aborted, time.Since(progress))
	}
	s.expectNothingLeft(t)
}

func TestStall(t *testing.T) {
	for _, test := range []struct {
		name string
		end  string
		do   func(t *testing.T, s site, c *gateway.Conn, tp *tape) // leaves the client stalled, with the last progress now
	}{
		{"takes nothing", "error/stalled", func(*testing.T, site, *gateway.Conn, *tape) {}},
		{"takes something", "error/stalled", func(_ *testing.T, _ site, _ *gateway.Conn, tp *tape) {
			for range 5 {
				time.Sleep(9 * time.Second) // fake clock
				tp.takes(1)
			}
		}},
		{"acknowledges something", "error/stalled", func(_ *testing.T, _ site, _ *gateway.Conn, tp *tape) {
			for range 5 {
				time.Sleep(9 * time.Second) // fake clock
				tp.set(func(tp *tape) { tp.progress++ })
			}
		}},
		{"acknowledges something before it was first looked at", "error/stalled", func(_ *testing.T, _ site, _ *gateway.Conn, tp *tape) {
			time.Sleep(sweep - 2*time.Millisecond) // fake clock
			tp.set(func(tp *tape) { tp.progress++ })
		}},
		{"takes more than it acknowledges", "error/stalled", func(_ *testing.T, _ site, _ *gateway.Conn, tp *tape) {
			time.Sleep(sweep) // fake clock
			synctest.Wait()
			tp.takes(20)
			time.Sleep(sweep - time.Millisecond) // fake clock
			tp.set(func(tp *tape) { tp.progress += 10 })
		}},
		{"is sent more", "error/stalled", func(t *testing.T, _ site, c *gateway.Conn, _ *tape) {
			start := time.Now()
			go func() {
				for time.Since(start) < 9*time.Second {
					time.Sleep(time.Second) // fake clock
					if r := c.Send(eventOf(t, 100), false, nil); r != gateway.Sent {
						t.Errorf("Send to a client that lags returned %d", r)
					}
				}
			}()
		}},
		{"is being closed", "server_closed/", func(_ *testing.T, _ site, c *gateway.Conn, _ *tape) {
			c.Send(frame.Frame{}, true, nil)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				s := newSite(nil)
				s.run(t)
				time.Sleep(sweep) // fake clock
				synctest.Wait()   // the next sweep is the longest possible time away
				c, tp := s.open(t, 10)
				c.Send(eventOf(t, 100), false, nil)
				test.do(t, s, c, tp)
				expectStalled(t, s, tp, time.Now())
				s.expectEnds(t, test.end)
			})
		})
	}
}

// A client that has taken everything has not stalled, however long nothing is sent.
func TestNoStallWithoutBytes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSite(nil)
		s.run(t)
		c, tp := s.open(t, 10)
		c.Send(eventOf(t, 100), false, nil)
		tp.takes(90)
		time.Sleep(25 * time.Minute) // fake clock
		if closed, _ := tp.state(); closed || c.State() != gateway.Open {
			t.Error("cut, though nothing waits")
		}
	})
}

// When nothing waits any more, the gateway keeps watching the client until it has acknowledged
// everything. The kernel was told to leave that to the gateway, and would take long.
func TestStallOfTheLastBytes(t *testing.T) {
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprintf("more comes: %v", again), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				s := newSite(nil)
				s.run(t)
				time.Sleep(sweep) // fake clock
				synctest.Wait()
				c, tp := s.open(t, 10)
				tp.set(func(tp *tape) { tp.owing = true })
				c.Send(eventOf(t, 100), false, nil)
				time.Sleep(sweep) // fake clock
				synctest.Wait()
				tp.takes(plenty)
				progress := time.Now()
				if again {
					// In turns, bytes wait and the kernel takes them, but the client never acknowledges any.
					for range 12 {
						time.Sleep(300 * time.Millisecond) // fake clock
						tp.set(func(tp *tape) { tp.room = 10 })
						c.Send(eventOf(t, 100), false, nil)
						time.Sleep(300 * time.Millisecond) // fake clock
						tp.set(func(tp *tape) { tp.room = plenty })
						tp.conn.Ready(tp, false, true)
					}
				}
				expectStalled(t, s, tp, progress)
				s.expectEnds(t, "error/stalled")
			})
		})
	}
	t.Run("acknowledged in the end", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			s := newSite(nil)
			s.run(t)
			c, tp := s.open(t, 10)
			tp.set(func(tp *tape) { tp.owing = true })
			c.Send(eventOf(t, 100), false, nil)
			time.Sleep(sweep) // fake clock
			tp.takes(plenty)
			for range 5 {
				time.Sleep(9 * time.Second) // fake clock
				tp.set(func(tp *tape) { tp.progress++ })
			}
			tp.set(func(tp *tape) { tp.owing = false })
			time.Sleep(25 * time.Minute) // fake clock
			if closed, _ := tp.state(); closed || c.State() != gateway.Open {
				t.Error("cut, though nothing waits")
			}
		})
	})
}
