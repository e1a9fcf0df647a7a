package load

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// The ways in which a connection comes and goes.
var lives = []func(s *site, n int) error{
	// The client leaves, in order or with a reset.
	func(s *site, n int) error {
		return s.visit(n, "/stream", func(net.Conn, *bufio.Reader) error { return nil })
	},
	func(s *site, n int) error {
		return s.visit(n, "/stream", func(c net.Conn, _ *bufio.Reader) error { return c.(*net.TCPConn).SetLinger(0) })
	},
	// The backend closes it after an event.
	func(s *site, n int) error {
		return s.visit(n, "/stream", func(_ net.Conn, r *bufio.Reader) error {
			token := s.backend.token(n)
			if status, err := s.send(token, "last"); err != nil || status != http.StatusOK {
				return fmt.Errorf("send: %d %w", status, err)
			}
			status, _ := harness.PostJSON(s.http, "http://"+s.addr+"/internal/send", map[string]any{"token": token, "close": true})
			if status != http.StatusOK {
				return fmt.Errorf("close: %d", status)
			}
			text, err := io.ReadAll(r)
			if err != nil || !strings.Contains(string(text), "data: last\n\n") {
				return fmt.Errorf("the stream had %q, %w", text, err)
			}
			return nil
		})
	},
	// The backend refuses it.
	func(s *site, n int) error { return s.visit(n, "/refused", nil) },
	// The client leaves while the backend is being asked, or before.
	func(s *site, n int) error {
		conn, err := s.dial(n)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write(requestOf("/stream", s.addr, n))
		return err
	},
}

// dial dials from one of many addresses.
func (s *site) dial(n int) (net.Conn, error) {
	return harness.Endpoint{Addr: s.addr}.Dial(s.t.Context(), 0, fmt.Sprintf("127.0.0.%d", 1+n%250))
}

// visit opens a stream and hands it over. Without a function the stream has to be refused.
func (s *site) visit(n int, path string, with func(net.Conn, *bufio.Reader) error) error {
	conn, err := s.dial(n)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write(requestOf(path, s.addr, n)); err != nil {
		return err
	}
	r := bufio.NewReaderSize(conn, 512)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	defer conn.Close() // before the body, which is endless
	if want := map[bool]int{true: http.StatusOK, false: http.StatusForbidden}[with != nil]; resp.StatusCode != want {
		return fmt.Errorf("%s is answered %s", path, resp.Status)
	}
	if with == nil {
		return nil
	}
	return with(conn, bufio.NewReader(resp.Body))
}

// comeAndGo has n connections come and go, some of them at a time.
func (s *site) comeAndGo(n int) {
	s.t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && !s.t.Failed(); i = int(next.Add(1)) - 1 {
				if err := lives[i%len(lives)](s, i); err != nil {
					s.t.Errorf("connection %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	s.backend.forget()
}

// holdings is what a gateway holds: goroutines, descriptors, live heap in bytes, and what its
// metrics say it has of connections and their likes.
type holdings struct {
	goroutines, descriptors, heap int
	gauges                        string
}

func (s *site) holdings() (h holdings) {
	s.t.Helper()
	s.http.CloseIdleConnections() // they are the gateway's descriptors and goroutines, too
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.gateway.Pid()))
	if err != nil {
		s.t.Fatal(err)
	}
	h.descriptors = len(entries)
	h.goroutines = int(s.metric("go_goroutines"))
	for range 2 { // what finalizers hold goes with the second collection
		for line := range strings.Lines(s.get("/internal/debug/pprof/heap?gc=1&debug=1")) {
			if rest, ok := strings.CutPrefix(line, "# HeapAlloc = "); ok {
				if h.heap, err = strconv.Atoi(strings.TrimSpace(rest)); err != nil {
					s.t.Fatal(err)
				}
			}
		}
	}
	gauges := map[string]bool{}
	for line := range strings.Lines(s.get("/metrics")) {
		if f := strings.Fields(line); strings.HasPrefix(line, "# TYPE ssegateway_") && f[3] == "gauge" {
			gauges[f[2]] = true
		} else if name, _, _ := strings.Cut(f[0], "{"); gauges[name] {
			h.gauges += line
		}
	}
	return h
}

// After many connections have come and gone in different ways, the gateway holds what it held
// before: goroutines, descriptors, entries of its maps, and heap.
func TestManyConnections(t *testing.T) {
	s := start(t, "PPROF=true")
	s.backend.topic = "everybody"
	s.comeAndGo(max(*connections/10, 1000)) // what the first ones make the gateway have for good
	settled := func() bool {
		asked, _ := s.backend.told()
		return asked == s.backend.asked() && s.metric("ssegateway_disconnects_pending") == 0
	}
	await(t, harness.Patience, "every end told", settled)
	before := s.holdings()
	s.comeAndGo(*connections)
	await(t, harness.Patience, "every end told", settled)
	var after holdings
	for end := time.Now().Add(harness.Patience); ; {
		if after = s.holdings(); after.goroutines <= before.goroutines && after.descriptors <= before.descriptors && after.gauges == before.gauges || time.Now().After(end) {
			break
		}
		<-time.After(100 * time.Millisecond)
	}
	grown := 100 * (float64(after.heap)/float64(before.heap) - 1)
	harness.Figure(t, "after %d connections: goroutines %d (before %d), descriptors %d (before %d), heap %+.1f %% of %d kB (bound ±5 %%), every map as before",
		*connections, after.goroutines, before.goroutines, after.descriptors, before.descriptors, grown, before.heap/1000)
	if after.goroutines > before.goroutines || after.descriptors > before.descriptors || after.gauges != before.gauges {
		t.Errorf("the gateway holds %+v, and held %+v", after, before)
	}
	if grown > 5 {
		t.Errorf("the heap has %d bytes, and had %d", after.heap, before.heap)
	}
	for token, n := range s.backend.disconnects {
		if n != 1 {
			t.Errorf("the end of %s was told %d times", token, n)
		}
	}
}
