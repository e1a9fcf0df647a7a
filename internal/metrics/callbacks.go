package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"ssegateway/internal/history"
)

// Callbacks returns the attempts of an action so far. failed are the results that count as failures. What
// is observed meanwhile may be in some of the numbers only.
func (m *Metrics) Callbacks(action string, failed []string) (a history.Attempts) {
	if m, ok := m.latency.WithLabelValues(action).(prometheus.Metric); ok {
		h := read(m).GetHistogram()
		for i, b := range h.GetBucket() {
			a.Buckets[i] = b.GetCumulativeCount()
		}
		a.Count = h.GetSampleCount()
	}
	for _, result := range failed {
		a.Failed += uint64(read(m.callbacks.WithLabelValues(action, result)).GetCounter().GetValue())
	}
	return a
}

func read(m prometheus.Metric) *dto.Metric {
	var d dto.Metric
	if m.Write(&d) != nil { // it cannot fail
		return nil
	}
	return &d
}
