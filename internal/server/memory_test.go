package server

import "testing"

func TestStorm(t *testing.T) {
	var s storm
	// Turnover after each second, and whether the storm is over then.
	for i, step := range []struct {
		turnover uint64
		over     bool
	}{
		{0, false}, {0, false}, {0, false}, // at rest
		{100, false}, {100, false}, {100, false}, {100, false}, // too few to be worth it
		{5000, false}, {9000, false}, {9010, false}, {9020, true}, // over when calm for two seconds
		{9020, false}, {9400, false}, {9400, false}, {9400, false}, // not again for so few
		{9700, false}, {9700, false}, {9700, true}, // but for all since the last time
	} {
		if got := s.isOver(step.turnover); got != step.over {
			t.Errorf("step %d: over %v, want %v", i, got, step.over)
		}
	}
}
