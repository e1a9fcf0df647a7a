package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ssegateway/e2e/harness"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Two real nodes are really measured. With NATS_READ=own a publish costs a node without a client of its topic
// a fraction of what it costs with NATS_READ=all.
func TestMeasure(t *testing.T) {
	o := options{nodes: []int{2}, runs: 1, topics: 8, publishers: 4, duration: 300 * time.Millisecond, warmUp: 100 * time.Millisecond}
	r, err := o.measure(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	if len(r.runs) != 4 {
		t.Fatalf("%d runs, want 4", len(r.runs))
	}
	for i := range r.runs {
		if one := &r.runs[i]; one.published < 10 || one.took < o.duration || rate(one) <= 0 || firstNode(one) <= 0 || natsCost(one) <= 0 {
			t.Errorf("%s: %+v", one.scenario, one)
		}
	}
	all, _ := r.median(scenario{2, oneNode, "all"}, foreignOne)
	own, _ := r.median(scenario{2, oneNode, "own"}, foreignOne)
	if all <= 0 || own > all/2 {
		t.Errorf("a publish costs a node without a client %.1f µs with NATS_READ=own, and %.1f µs with all", own, all)
	}
}

// deaf is a gateway that delivers each event as often as it says.
type deaf struct {
	times   func(topic string, number int) int
	mu      sync.Mutex
	streams map[string]chan string
	numbers map[string]int
}

func (d *deaf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		events := make(chan string, 10_000)
		d.mu.Lock()
		d.streams[r.URL.Path[1:]] = events
		d.mu.Unlock()
		for {
			_ = http.NewResponseController(w).Flush() // if it fails, the client has gone
			select {
			case data := <-events:
				fmt.Fprintf(w, "id: 1\ndata: %s\n\n", data)
			case <-r.Context().Done():
				return
			}
		}
	}
	var p struct {
		Topic string
		Event struct{ Data string }
	}
	if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.numbers[p.Topic]++
	for range d.times(p.Topic, d.numbers[p.Topic]) {
		select {
		case d.streams[p.Topic] <- p.Event.Data:
		default:
		}
	}
	_, _ = io.WriteString(w, "{}") // if it fails, the publisher says so
}

// An event that is lost or comes twice is an error.
func TestDelivery(t *testing.T) {
	for name, test := range map[string]struct {
		times func(topic string, number int) int
		want  string
	}{
		"all":   {func(string, int) int { return 1 }, ""},
		"lost":  {func(topic string, number int) int { return min(1, max(number-3, 3-number)) }, "event 4 of topic "},
		"twice": {func(_ string, number int) int { return 1 + number/2%2 }, "event 2 of topic "},
		"deaf": {func(topic string, _ int) int {
			if topic == "n2-3" {
				return 0
			}
			return 1
		}, "topic n2-3 of node 2 got 0 of "},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(&deaf{times: test.times, streams: map[string]chan string{}, numbers: map[string]int{}})
			defer server.Close()
			u, err := url.Parse(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			port, err := strconv.Atoi(u.Port())
			if err != nil {
				t.Fatal(err)
			}
			node := &harness.Process{Port: port}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			traffic, err := open(ctx, &cluster{nodes: []*harness.Process{node, node}}, scenario{2, spread, "all"}, &options{topics: 4, publishers: 4})
			if err != nil {
				t.Fatal(err)
			}
			defer traffic.close()
			err = traffic.during(200*time.Millisecond, 4)
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}
