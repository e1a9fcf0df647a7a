package load

import (
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// A second or so after the last of many streams was opened, each costs at most 1,300 bytes of
// resident memory, and none a goroutine. The default cap admits 19,000 streams at a limit of
// 20,000 descriptors.
func TestIdleMemory(t *testing.T) {
	const first = 100
	s := start(t)
	s.open(first, 0) // warm up, so that memory that does not depend on the number of streams is not counted
	before, goroutines := s.residentBytes(), s.metric("go_goroutines")
	s.open(*streams-first, 0)
	<-time.After(5 * time.Second) // the gateway gives memory back when it has been calm for some seconds
	after := s.residentBytes()
	perStream := (after - before) / int64(*streams-first)
	more := s.metric("go_goroutines") - goroutines
	harness.Figure(t, "%d bytes of resident memory for each of %d idle streams (bound 1,300), %+.0f goroutines (bound 100)", perStream, *streams, more)
	if *strict && perStream > 1300 {
		t.Errorf("%d bytes per idle stream, want at most 1300", perStream)
	}
	if more > 100 {
		t.Errorf("%.0f goroutines more for %d streams", more, *streams)
	}
	if open := s.metric(`ssegateway_connections{state="open"}`); open != float64(*streams) {
		t.Errorf("%.0f open streams, want %d", open, *streams)
	}
}
