package load

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// processCPU returns the processor time that the gateway has used, to a hundredth of a second.
func (s *site) processCPU() time.Duration {
	s.t.Helper()
	used, err := s.gateway.CPU()
	if err != nil {
		s.t.Fatal(err)
	}
	return used
}

// An event of a relayed answer costs its readers no more than a tenth more than one that is published to as many streams,
// and comes as soon. The test alternates between both.
func TestRelayedFanout(t *testing.T) {
	const rounds = 5
	write := make(chan string)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Sse-Gateway-Resume", "60")
		_ = http.NewResponseController(w).Flush()
		for {
			select {
			case data := <-write:
				_, _ = fmt.Fprintf(w, "data: %s\n\n", data)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}))
	t.Cleanup(app.Close)
	s := start(t, "RELAY_URL="+app.URL, "RELAY_PATHS=/app", "HEARTBEAT_INTERVAL_SECONDS=3600", "RELAY_ANSWER_BYTES=100000000", "RELAY_BUDGET_BYTES=100000000")
	s.backend.topic = "everybody"
	first, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { first.Close() })
	if _, err := fmt.Fprintf(first, "POST /app HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\n\r\n", s.addr); err != nil {
		t.Fatal(err)
	}
	head, err := http.ReadResponse(bufio.NewReaderSize(first, 4096), nil)
	if err != nil {
		t.Fatal(err)
	}
	key := head.Header.Get("Sse-Gateway-Resume")
	_ = first.Close() // the others read on
	_ = head.Body.Close()
	kinds := []struct {
		name    string
		readers *timed
		write   func()
	}{
		{"published", s.openTimed(*streams, "/stream", ""), func() { s.publish(timedData()) }},
		{"relayed", s.openTimed(*streams, "/app", key), func() { write <- timedData() }},
	}
	costs, p50s, p99s := map[string]harness.Latencies{}, map[string]harness.Latencies{}, map[string]harness.Latencies{}
	for range rounds {
		for _, kind := range kinds {
			before := s.processCPU()
			ticker := time.NewTicker(time.Second / time.Duration(*rate))
			n := max(1, int(duration.Seconds()*float64(*rate))/rounds)
			kind.readers.wants(n * *streams)
			for range n {
				<-ticker.C
				kind.write()
			}
			ticker.Stop()
			events, p50, p99 := kind.readers.take()
			if events != n**streams {
				t.Fatalf("%s: %d deliveries, want %d", kind.name, events, n**streams)
			}
			costs[kind.name] = append(costs[kind.name], (s.processCPU()-before)/time.Duration(events))
			p50s[kind.name], p99s[kind.name] = append(p50s[kind.name], p50), append(p99s[kind.name], p99)
		}
	}
	relayed, published := costs["relayed"].Quantile(.5), costs["published"].Quantile(.5)
	harness.Figure(t, "%d readers of one answer, %d events a second: p50 %v, p99 %v (published: %v, %v); CPU of a delivery %v (published: %v, %+.1f %%, bound +10 %%)", *streams, *rate,
		p50s["relayed"].Quantile(.5), p99s["relayed"].Quantile(.5), p50s["published"].Quantile(.5), p99s["published"].Quantile(.5), relayed, published, 100*(float64(relayed)/float64(published)-1))
	if *strict && float64(relayed) > 1.1*float64(published) {
		t.Error("an event of an answer costs over a tenth more than one that is published")
	}
}
