// Package bubble runs a test on a clock of its own, by testing/synctest.
//
// With the race detector, two threads that fire timers of one bubble at the
// same moment crash the process: the runtime has one race context per bubble
// for whoever fires its timers, and unlike those of a P nothing guards it
// (Go 1.26, runtime.(*timer).unlockAndRun; without its guard TestTimers shows it). So Test keeps
// the process on one thread while a bubble runs, where the race detector is on.
// The detector finds races from the order of synchronisation and not from
// simultaneous running, so it loses little by that.
package bubble

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

var (
	mu      sync.Mutex
	running int
	procs   int
)

// Test is [synctest.Test]. Tests may call it at the same time.
func Test(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if raceDetector {
		enter()
		defer leave()
	}
	synctest.Test(t, f) //nolint:forbidigo // this is the call that all others make through Test
}

func enter() {
	mu.Lock()
	defer mu.Unlock()
	if running == 0 {
		procs = runtime.GOMAXPROCS(1)
	}
	running++
}

func leave() {
	mu.Lock()
	defer mu.Unlock()
	running--
	if running == 0 {
		runtime.GOMAXPROCS(procs)
	}
}
