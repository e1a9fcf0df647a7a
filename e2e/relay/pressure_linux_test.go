package relay

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// event is large, so that buffers fill soon.
var event = "data: " + strings.Repeat("x", 8<<10) + "\n\n"

// flood writes events until the application's connection breaks.
func flood(c *call, written *atomic.Int64) {
	c.say(stream)
	for {
		n, err := c.conn.Write([]byte(event))
		written.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// A client that stops reading holds up its application, not the gateway's memory. It is cut as on any stream, and its
// application left.
func TestBackPressure(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		var written atomic.Int64
		gone := make(chan time.Time, 1)
		a := startApp(t, func(c *call) bool {
			flood(c, &written)
			gone <- time.Now()
			return false
		})
		s := start(t, k, a)
		x := s.do(harness.Request{Method: "POST", Target: "/app", Body: []byte("q"), ReceiveBuffer: 4 << 10, StopAfterHead: true})
		if _, err := x.Head(harness.Patience); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		before, err := s.Memory("VmRSS")
		if err != nil {
			t.Fatal(err)
		}
		var most int64
		look := time.NewTicker(100 * time.Millisecond)
		defer look.Stop()
		for cut := false; !cut; {
			select {
			case <-gone:
				cut = true
			case <-look.C:
				now, _ := s.Memory("VmRSS")
				most = max(most, now-before)
				if time.Since(begin) > 2*harness.Patience {
					t.Fatalf("the application is still there, and has written %d bytes", written.Load())
				}
			}
		}
		if took := time.Since(begin); took < 8*time.Second || took > 16*time.Second {
			t.Errorf("cut after %v", took)
		}
		// What was written is in buffers of the kernel, up to 6 MB between application and gateway.
		if n := written.Load(); n > 16<<20 || most > 24<<20 {
			t.Errorf("%d bytes were written, and memory grew by %d", n, most)
		}
		x.Resume()
		if _, end, _ := x.Rest(harness.Patience); end != harness.Cut {
			t.Errorf("the stream ends with %v", end)
		}
	})
}

// A client that reads slowly is not cut, and its application has its pace.
func TestSlowReader(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		var written atomic.Int64
		a := startApp(t, func(c *call) bool { flood(c, &written); return false })
		s := start(t, k, a)
		x := s.do(harness.Request{Method: "POST", Target: "/app", Body: []byte("q"), ReceiveBuffer: 4 << 10, StopAfterHead: true})
		if _, err := x.Head(harness.Patience); err != nil {
			t.Fatal(err)
		}
		pace := time.NewTicker(500 * time.Millisecond)
		defer pace.Stop()
		for range 30 {
			<-pace.C
			x.Take(8 << 10)
		}
		x.Resume()
		if err := x.AwaitReceived(int(written.Load()), harness.Patience); err != nil {
			t.Error(err)
		}
	})
}

// Whoever leaves has the application left at once, whatever it is doing.
func TestLeaving(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		a := startApp(t, func(c *call) bool {
			switch c.RequestURI {
			case "/app/stream":
				c.say(stream + "data: x\n\n")
			case "/app/plain":
				c.say("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\nbegun")
			}
			c.gone(t)
			return false
		})
		s := start(t, k, a)
		for _, target := range []string{"/app/stream", "/app/plain", "/app/pending"} {
			for name, leave := range map[string]func(x *harness.Exchange){
				"leave": (*harness.Exchange).Leave, "hang up": (*harness.Exchange).HangUp, "reset": func(x *harness.Exchange) { _ = x.Reset() },
			} {
				var took []time.Duration
				for range 5 {
					x := s.do(harness.Request{Method: "POST", Target: target, Body: []byte("q")})
					if target != "/app/pending" {
						if _, err := x.Head(harness.Patience); err != nil {
							t.Fatal(err)
						}
						x.Begin(3, harness.Patience)
					}
					c := a.next(t)
					begin := time.Now()
					leave(x)
					took = append(took, c.gone(t).Sub(begin))
				}
				slices.Sort(took)
				if took[2] > 100*time.Millisecond {
					t.Errorf("%s, %s: %v", target, name, took)
				}
			}
		}
	})
}

// fds counts a gateway's descriptors.
func (s *site) fds() int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.Pid()))
	if err != nil {
		s.t.Fatal(err)
	}
	return len(entries)
}

// When all is over, so are all descriptors and all connections, however it ended.
func TestNothingIsLeft(t *testing.T) {
	each(t, func(t *testing.T, k harness.Kind) {
		a := startApp(t, func(c *call) bool {
			switch c.URL.Path {
			case "/app/stream":
				c.say(stream + "data: x\n\n")
			case "/app/cut":
				c.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ndata")
			case "/app/hold":
				c.say("HTTP/1.1 200 OK\r\nContent-Type: " + holdType + "\r\nSse-Gateway-Token: " + c.token + "\r\nContent-Length: 2\r\n\r\n{}")
				return true
			case "/app/forged":
				c.say("HTTP/1.1 200 OK\r\nContent-Type: " + holdType + "\r\nContent-Length: 2\r\n\r\n{}")
				return true
			case "/app/none":
			case "/app/nonsense":
				c.say("nonsense\r\n\r\n")
			default:
				c.say(plain("x"))
				return true
			}
			return false
		})
		s := start(t, k, a)
		s.status(harness.Request{Target: "/app"}, http.StatusOK)
		settle := func(want int) int {
			begin := time.Now()
			look := time.NewTicker(50 * time.Millisecond)
			defer look.Stop()
			for ; ; <-look.C {
				states, err := s.Connections()
				if n := s.fds(); err == nil && len(states) == 0 && n <= want || time.Since(begin) > harness.Patience {
					if len(states) > 0 {
						t.Errorf("left: %v", states)
					}
					return n
				}
			}
		}
		base := settle(1 << 20)
		for range 5 {
			for _, path := range []string{"/app/stream", "/app/cut", "/app/hold", "/app/forged", "/app/none", "/app/nonsense", "/app/plain"} {
				for _, body := range [][]byte{nil, []byte("q"), []byte(strings.Repeat("q", 30_000))} {
					x := s.do(harness.Request{Method: "POST", Target: path, Body: body})
					_, _ = x.Head(harness.Patience)
					x.HangUp()
				}
			}
		}
		if n := settle(base + 2); n > base+2 {
			t.Errorf("%d descriptors, %d before", n, base)
		}
	})
}
