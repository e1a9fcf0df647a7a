package harness

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Latencies are measured times.
type Latencies []time.Duration

// Quantile returns the smallest latency that a fraction q of all does not exceed.
func (l Latencies) Quantile(q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(l))
	return sorted[max(int(math.Ceil(q*float64(len(l)))), 1)-1]
}

func (l Latencies) String() string {
	return fmt.Sprintf("p50 %v  p90 %v  p99 %v  max %v  (n=%d)", l.show(0.5), l.show(0.9), l.show(0.99), l.show(1), len(l))
}

func (l Latencies) show(q float64) time.Duration { return l.Quantile(q).Round(10 * time.Microsecond) }
