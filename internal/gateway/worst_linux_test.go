package gateway_test

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/outbox"
	"ssegateway/sse"
)

// BenchmarkWorstSend measures the worst single send, in CPU time of its thread. Events of 10
// bytes are sent to a client whose queue of 1 MiB is full, under each policy. Under disconnect
// the send at the bound cuts the connection, and a new connection takes its place.
func BenchmarkWorstSend(b *testing.B) {
	for _, test := range []struct {
		overflow outbox.Overflow
		names    int
	}{{outbox.Disconnect, 1}, {outbox.DropOldest, 1}, {outbox.Latest, 1}, {outbox.Latest, 100}, {outbox.Latest, 20000}} {
		b.Run(fmt.Sprintf("%v of %d names", test.overflow, test.names), func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			frames := make([]frame.Frame, 20000)
			for i := range frames {
				e := sse.Event{Data: "xx"}
				if test.names > 1 {
					e.Name, _ = sse.NewName(strconv.Itoa(i % test.names))
				}
				frames[i] = frame.Event(e)
			}
			s := newSite(nil)
			c, _ := s.grant(b, 0, gateway.Grant{Overflow: test.overflow})
			if test.overflow != outbox.Disconnect {
				for _, f := range frames {
					c.Send(f, false, nil)
				}
			}
			var times []time.Duration
			for i := 0; b.Loop(); i = (i + 1) % len(frames) {
				began := threadTime()
				c.Send(frames[i], false, nil)
				times = append(times, threadTime()-began)
				if c.State() == gateway.Closed {
					c, _ = s.grant(b, 0, gateway.Grant{Overflow: test.overflow})
				}
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)-1].Microseconds()), "µs-max")
			b.ReportMetric(float64(times[len(times)/2].Nanoseconds()), "ns-p50")
			c.Abort(gateway.ClientClosed, 0)
		})
	}
}

// threadTime returns the CPU time that the calling thread has used.
func threadTime() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		panic(err)
	}
	return time.Duration(now.Nano())
}
