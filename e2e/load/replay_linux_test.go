package load

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// publish publishes an event with the data, and returns its id.
func (s *site) publish(data string) string {
	s.t.Helper()
	body, err := json.Marshal(map[string]any{"topic": "everybody", "event": map[string]string{"data": data}})
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := s.http.Post("http://"+s.addr+"/internal/publish", "application/json", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ ID string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatal(resp.Status, err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return answer.ID
}

// follow reads the events first to last from a stream, and checks that none is missing,
// doubled or out of order. It reports the delay of each event to seen.
func follow(r *bufio.Reader, first, last uint64, seen func(n uint64, delay time.Duration)) error {
	next := first
	var id uint64
	for next <= last {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("after event %d: %w", next-1, err)
		}
		if rest, ok := bytes.CutPrefix(line, []byte("id: ")); ok {
			_, digits, _ := strings.Cut(strings.TrimSpace(string(rest)), "-")
			if id, err = strconv.ParseUint(digits, 10, 64); err != nil {
				return err
			}
		}
		if bytes.HasPrefix(line, []byte("event: gap")) {
			return fmt.Errorf("a gap after event %d", next-1)
		}
		if rest, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
			if id != next {
				return fmt.Errorf("event %d instead of %d", id, next)
			}
			nanos, err := strconv.ParseInt(strings.TrimSpace(string(rest)), 10, 64)
			if err != nil {
				return err
			}
			seen(next, time.Since(time.Unix(0, nanos)))
			next++
		}
	}
	return nil
}

// Half of the clients lose their streams, miss many events, and reconnect at the
// same time. All of them get all events in order, while publishing goes on. The p99 of live
// delivery to the other clients at most doubles.
func TestReplayStorm(t *testing.T) {
	const perSecond = 50
	missed := *streams / 2
	paced := uint64(*duration/time.Second) * perSecond
	before, during := paced, paced
	last := before + uint64(missed) + during
	live := *streams / 2
	returning := *streams - live
	s := start(t)
	s.backend.topic = "everybody"
	stamp := func() string { return strconv.FormatInt(time.Now().UnixNano(), 10) }

	var mu sync.Mutex
	delays := map[bool]harness.Latencies{} // by whether the storm had begun
	measure := func(r *bufio.Reader, upto uint64) error {
		mine := map[bool]harness.Latencies{}
		err := follow(r, 1, upto, func(n uint64, d time.Duration) {
			if n <= before || n > before+uint64(missed) {
				mine[n > before] = append(mine[n > before], d)
			}
		})
		mu.Lock()
		defer mu.Unlock()
		for storm, some := range mine {
			delays[storm] = append(delays[storm], some...)
		}
		return err
	}
	var staying, leaving sync.WaitGroup
	for n, c := range s.open(live+returning, 0) {
		if n < live {
			staying.Go(func() {
				if err := measure(c.rest, last); err != nil {
					t.Error("a live client:", err)
				}
			})
			continue
		}
		leaving.Go(func() {
			defer c.conn.Close()
			if err := measure(c.rest, before); err != nil {
				t.Error("a client before it left:", err)
			}
		})
	}
	pace := time.NewTicker(time.Second / perSecond)
	defer pace.Stop()
	var id string
	for range before {
		<-pace.C
		id = s.publish(stamp())
	}
	leaving.Wait()
	for range missed {
		s.publish(stamp())
	}

	storm := time.Now()
	var caughtUp []time.Duration
	for range returning {
		staying.Go(func() {
			e := harness.Endpoint{Addr: s.addr}
			conn, err := e.Dial(t.Context(), 0, "")
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprintf(conn, "GET /back HTTP/1.1\r\nHost: x\r\nX-Client: 1\r\nLast-Event-ID: %s\r\n\r\n", id)
			err = follow(bufio.NewReader(conn), before+1, last, func(n uint64, _ time.Duration) {
				if n == before+uint64(missed) {
					mu.Lock()
					caughtUp = append(caughtUp, time.Since(storm))
					mu.Unlock()
				}
			})
			if err != nil {
				t.Error("a returning client:", err)
			}
		})
	}
	for range during {
		<-pace.C
		s.publish(stamp())
	}
	staying.Wait()
	p99before, p99during := delays[false].Quantile(.99), delays[true].Quantile(.99)
	if len(caughtUp) != returning {
		t.Errorf("%d of %d clients have caught up", len(caughtUp), returning)
		return
	}
	harness.Figure(t, "p99 of an event to %d live clients %v, and %v while %d others come back and get %d missed events each, within %v (bound: twice)",
		live, p99before.Round(10*time.Microsecond), p99during.Round(10*time.Microsecond), returning, missed, slices.Max(caughtUp).Round(time.Millisecond))
	if *strict && p99during > 2*p99before {
		t.Error("the p99 of live delivery more than doubled")
	}
}
