package load

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// counted reads a stream until it has the events "p 1" to "p n", and "s 1" to "s own" beside them.
func counted(r *bufio.Reader, published, own int) error {
	have := map[byte]int{}
	for have['p'] < published || have['s'] < own {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("with %d published and %d sent events: %w", have['p'], have['s'], err)
		}
		if bytes.HasPrefix(line, []byte("event: gap")) {
			return fmt.Errorf("a gap after %d published events", have['p'])
		}
		rest, ok := bytes.CutPrefix(line, []byte("data: "))
		if !ok {
			continue
		}
		have[rest[0]]++
		if n, err := strconv.Atoi(strings.TrimSpace(string(rest[2:]))); err != nil || n != have[rest[0]] {
			return fmt.Errorf("%q instead of number %d", line, have[rest[0]])
		}
	}
	return nil
}

// A gateway has 64 MiB, kernel memory included. It has streams, of which a twentieth do not read
// what comes for them, and more is published than its log may hold. It goes on. Whatever was
// answered 200 arrives at all who read. Those who do not are cut, and the backend is told; who
// comes back to where the log does not reach gets a gap.
func TestSmallMemory(t *testing.T) {
	const limit = 64 << 20
	const logBytes = 2 << 20
	const published = 20    // to everybody
	const goLimit = "32MiB" // half of it, as docs/operations.md advises; the kernel's share is about as large
	g := newGroup(t, limit)
	s := startAs(t, g.command(), "GOMEMLIMIT="+goLimit, "TOPIC_LOG_BYTES="+strconv.Itoa(logBytes), "QUEUE_BYTES=65536", "QUEUE_BUDGET_BYTES=4194304")
	s.backend.topic = "everybody"
	stalled := s.open(*streams/20, 4096)
	readers := s.open(*streams-*streams/20, 0)
	const every = 20 // one of so many readers is sent events of its own
	var reading sync.WaitGroup
	for i, c := range readers {
		reading.Go(func() {
			own := 0
			if i%every == 0 {
				own = published
			}
			_ = c.conn.SetReadDeadline(time.Now().Add(10 * harness.Patience))
			if err := counted(c.rest, published, own); err != nil {
				t.Errorf("reader %d: %v", i, err)
			}
		})
	}
	var flood sync.WaitGroup
	large := strings.Repeat("x", 40_000)
	for sender := range 4 {
		flood.Go(func() {
			for i := sender; i < len(stalled); i += 4 {
				for status := http.StatusOK; status == http.StatusOK; { // until it was cut
					var err error
					if status, err = s.send(stalled[i].token, large); err != nil {
						t.Errorf("a send to a client that does not read: %v", err)
						return
					}
				}
			}
		})
	}
	var first string
	padding := strings.Repeat("x", 1000)
	for n := 1; n <= published; n++ {
		id := s.publish(fmt.Sprint("p ", n))
		if first == "" {
			first = id
		}
		for i := 0; i < len(readers); i += every {
			if status, err := s.send(readers[i].token, fmt.Sprint("s ", n)); err != nil || status != http.StatusOK {
				t.Fatalf("a send to a client that reads: %d %v", status, err)
			}
		}
		for range 2 * logBytes / published / len(padding) { // nobody has that topic
			status, _ := harness.PostJSON(s.http, "http://"+s.addr+"/internal/publish", map[string]any{"topic": "elsewhere", "event": map[string]string{"data": padding}})
			if status != http.StatusOK {
				t.Fatalf("a publish is answered %d", status)
			}
		}
	}
	flood.Wait()
	reading.Wait()
	await(t, harness.Patience, "every client that does not read cut", func() bool { n, _ := s.backend.told(); return n >= len(stalled) })
	for _, c := range stalled {
		if n := s.backend.timesTold(c.token); n != 1 {
			t.Errorf("the end of %s was told %d times", c.token, n)
		}
	}
	conn, err := harness.Endpoint{Addr: s.addr}.Dial(t.Context(), 0, "")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /back HTTP/1.1\r\nHost: x\r\nX-Client: 1\r\nLast-Event-ID: %s\r\n\r\n", first)
	_ = conn.SetReadDeadline(time.Now().Add(harness.Patience))
	for r, text := bufio.NewReader(conn), ""; !strings.Contains(text, "event: gap"); {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("who comes back gets no gap but %q, %v", text, err)
		}
		text += line
	}
	told, reasons := s.backend.told()
	harness.Figure(t, "%d streams in a cgroup of %d MiB: at most %.1f MiB taken, %d processes killed; %d events answered 200 are all there, %d clients that do not read cut and told (%v), %.0f gaps said",
		*streams, limit>>20, float64(g.peakBytes())/(1<<20), g.kills(), published*(1+(len(readers)+every-1)/every), told, reasons, s.metric("ssegateway_gaps_total"))
	if told != len(stalled) || g.kills() != 0 {
		t.Errorf("%d ends told, want %d; %d killed\n%s", told, len(stalled), g.kills(), s.gateway.Log.Text())
	}
	if open := s.metric(`ssegateway_connections{state="open"}`); open != float64(len(readers)+1) {
		t.Errorf("%.0f streams are open, want %d", open, len(readers)+1)
	}
}
