package bubble

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

// Timers that are due at one moment are fired by the bubble's root and by
// goroutines that look at their channels.
func TestTimers(t *testing.T) {
	for range 300 {
		Test(t, func(*testing.T) {
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					for range 20 {
						waited, polled := time.NewTimer(time.Millisecond), time.NewTimer(time.Millisecond)
						<-waited.C
						select {
						case <-polled.C:
						default:
						}
					}
				})
				all.Add(1)
				left := 20
				var again func()
				again = func() {
					if left--; left == 0 {
						all.Done()
						return
					}
					time.AfterFunc(time.Millisecond, again)
				}
				time.AfterFunc(time.Millisecond, again)
			}
			all.Wait()
		})
	}
}

func TestThreadsAreBack(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	t.Run("bubbles", func(t *testing.T) {
		for range 8 {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				Test(t, func(*testing.T) { time.Sleep(time.Hour) }) // fake clock
			})
		}
	})
	if after := runtime.GOMAXPROCS(0); after != before {
		t.Errorf("%d threads after the bubbles, %d before", after, before)
	}
}
