//go:build !race

package logging

import (
	"io"
	"log/slog"
	"testing"
)

// TestNoAllocations does not run under the race detector, where pools forget at random.
func TestNoAllocations(t *testing.T) {
	l := New(io.Discard, slog.LevelInfo, "text")
	if got := testing.AllocsPerRun(1000, func() { logClose(l) }); got > 0 {
		t.Errorf("%v allocations for a line", got)
	}
}
