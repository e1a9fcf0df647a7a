package stream_test

import (
	"os"
	"runtime"
	"testing"
)

// openFiles returns how many descriptors this process has open. What only waits for
// the garbage collector is closed first.
func openFiles(t testing.TB) int {
	t.Helper()
	runtime.GC()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
