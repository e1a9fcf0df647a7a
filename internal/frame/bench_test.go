package frame_test

import (
	"strings"
	"testing"

	"ssegateway/internal/frame"
	"ssegateway/sse"
)

func BenchmarkEvent(b *testing.B) {
	e := sse.Event{Data: strings.Repeat("x", 256)}
	b.ReportAllocs()
	for b.Loop() {
		frame.Event(e)
	}
}

// BenchmarkJoin is a batch of events for one write.
func BenchmarkJoin(b *testing.B) {
	frames := make([]frame.Frame, 16)
	for i := range frames {
		frames[i] = frame.Event(sse.Event{Data: strings.Repeat("x", 256)})
	}
	b.ReportAllocs()
	for b.Loop() {
		frame.Join(frames)
	}
}
