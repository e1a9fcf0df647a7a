package edge

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/bubble"
)

// pipes is a listener of connections in memory.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// serve runs a server behind an edge in a bubble, and f with a function that connects to it.
func serve(t *testing.T, handler http.HandlerFunc, f func(w *world, dial func() net.Conn)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(100, 10)
		l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		server := &http.Server{
			Handler: Handler(handler), ConnContext: Context, ConnState: Track,
			MaxHeaderBytes: 64 << 10, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 20 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: log.New(io.Discard, "", 0),
		}
		served := make(chan error)
		go func() { served <- server.Serve(w.Listen(l, Plain, shown)) }()
		f(w, func() net.Conn {
			client, conn := net.Pipe()
			l.conns <- conn
			return client
		})
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		synctest.Wait()
		if s := w.Stats(); s.Open != [StateHTTP2 + 1]int{} {
			t.Errorf("open in the end, by state: %v", s.Open)
		}
	})
}

// An answer does not wait for a body that nobody reads, and the connection ends soon after.
func TestAnswerBeforeBody(t *testing.T) {
	refuse := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusMethodNotAllowed) }
	for _, head := range []string{
		"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n",
		"GET /x HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nx",
		"POST /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
		"POST /x HTTP/1.0\r\nContent-Length: 1\r\n\r\n",
	} {
		serve(t, refuse, func(_ *world, dial func() net.Conn) {
			nc := dial()
			go func() { _, _ = io.WriteString(nc, head) }()
			begin := time.Now()
			in := bufio.NewReader(nc)
			resp, err := http.ReadResponse(in, nil)
			if err != nil || resp.StatusCode != http.StatusMethodNotAllowed || time.Since(begin) > 0 {
				t.Fatalf("%q: %v, %v after %v", head, resp, err, time.Since(begin))
			}
			_ = resp.Body.Close()
			if _, err := io.Copy(io.Discard, in); err != nil {
				t.Errorf("%q: %v", head, err)
			}
			if took := time.Since(begin); took > drainTimeout+time.Second {
				t.Errorf("%q: closed after %v", head, took)
			}
			_ = nc.Close()
		})
	}
}

// An expectation that net/http does not know is refused before any handler is asked, and the
// body behind it is not waited for without end.
func TestUnknownExpectation(t *testing.T) {
	serve(t, func(http.ResponseWriter, *http.Request) {}, func(_ *world, dial func() net.Conn) {
		nc := dial()
		begin := time.Now()
		go func() {
			_, _ = io.WriteString(nc, "GET /healthz HTTP/1.1\r\nHost: x\r\nExpect: foo\r\nContent-Length: 9\r\n\r\n")
		}()
		text, err := io.ReadAll(nc)
		if took := time.Since(begin); err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 417 ") || took > 30*time.Second {
			t.Errorf("%q, %v after %v", text, err, took)
		}
		_ = nc.Close()
	})
}

// What comes of a body when its time is over is never taken for the next request.
func TestLateBody(t *testing.T) {
	for _, read := range []bool{false, true} {
		var targets []string
		handler := func(_ http.ResponseWriter, r *http.Request) {
			targets = append(targets, r.URL.Path)
			if read {
				_, _ = io.Copy(io.Discard, r.Body)
			}
		}
		serve(t, handler, func(_ *world, dial func() net.Conn) {
			nc := dial()
			go func() { _, _ = io.Copy(io.Discard, nc) }()
			_, _ = io.WriteString(nc, "POST /first HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
			time.Sleep(bodyTimeout + drainTimeout) // fake clock
			_, _ = io.WriteString(nc, "GET /second HTTP/1.1\r\nHost: x\r\n\r\n")
			time.Sleep(time.Second) // fake clock
			_ = nc.Close()
		})
		if len(targets) != 1 {
			t.Errorf("read %t: requests for %q", read, targets)
		}
	}
}

// Behind a malformed body nothing is taken for a request, also what was read with it.
func TestMalformedBody(t *testing.T) {
	for _, read := range []bool{false, true} {
		var targets []string
		handler := func(w http.ResponseWriter, r *http.Request) {
			targets = append(targets, r.URL.Path)
			if read {
				_, _ = io.Copy(io.Discard, r.Body)
			}
			w.Header().Set("Content-Length", "2")
			_, _ = io.WriteString(w, "ok")
		}
		serve(t, handler, func(_ *world, dial func() net.Conn) {
			nc := dial()
			go func() {
				_, _ = io.WriteString(nc, "POST /first HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nGET /second HTTP/1.1\r\nHost: x\r\n\r\n")
			}()
			in := bufio.NewReader(nc)
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "ok" {
				t.Errorf("read %t: %q, %v", read, text, err)
			}
			_ = resp.Body.Close()
			if rest, _ := io.ReadAll(in); len(rest) > 0 {
				t.Errorf("read %t: then %q", read, rest)
			}
			_ = nc.Close()
		})
		if len(targets) != 1 {
			t.Errorf("read %t: requests for %q", read, targets)
		}
	}
}

// Who sends a large body that nobody wants gets its answer, and is not taken for a flood.
func TestLargeUnwantedBody(t *testing.T) {
	const size = 8 * floodStart
	refuse := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "2")
		w.WriteHeader(http.StatusMethodNotAllowed)
		_, _ = io.WriteString(w, "no")
	}
	serve(t, refuse, func(w *world, dial func() net.Conn) {
		nc := dial()
		sent := make(chan error, 1)
		go func() {
			_, err := fmt.Fprintf(nc, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
			sent <- err
		}()
		resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if err := <-sent; err != nil || resp.StatusCode != http.StatusMethodNotAllowed || w.Stats().Floods != 0 {
			t.Errorf("%d, %v, %d floods", resp.StatusCode, err, w.Stats().Floods)
		}
		_ = nc.Close()
	})
}

// A handler that panics has no answer, whatever is left of the body.
func TestPanicBeforeBody(t *testing.T) {
	serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, func(_ *world, dial func() net.Conn) {
		nc := dial()
		begin := time.Now()
		go func() { _, _ = io.WriteString(nc, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n") }()
		if text, err := io.ReadAll(nc); err != nil || len(text) > 0 || time.Since(begin) > 0 {
			t.Errorf("%q, %v after %v", text, err, time.Since(begin))
		}
		_ = nc.Close()
	})
}

// drip writes so many bytes at a time, with a pause before each, until that fails.
func drip(ctx context.Context, nc net.Conn, n int, pause time.Duration) {
	for {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		if _, err := io.WriteString(nc, strings.Repeat("x", n)); err != nil {
			return
		}
	}
}

// A peer has to send its body: some of it all the while, and a little more after a while.
func TestBodyDeadline(t *testing.T) {
	for _, test := range []struct {
		name          string
		pieces        int
		pause         time.Duration
		patient       bool
		least, within time.Duration
	}{
		{name: "nothing comes", pieces: 1, pause: time.Hour, least: bodyTimeout, within: bodyTimeout},
		{name: "a byte now and then", pieces: 1, pause: 9 * time.Second, least: bodyGrace, within: bodyGrace + bodyTimeout},
		{name: "a byte each 100 ms", pieces: 1, pause: 100 * time.Millisecond, least: bodyGrace, within: bodyGrace + bodyTimeout},
		{name: "little, but steadily", pieces: bodyRate, pause: 9 * time.Second, least: 900 * time.Second, within: 1000 * time.Second},
		{name: "who may take time", pieces: 1, pause: 9 * time.Minute, patient: true, least: 20 * time.Hour, within: 200 * time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			const length = 100 * bodyRate
			var took time.Duration
			var failed error
			var states chan State     // of the bubble
			var handled chan struct{} // of the bubble
			handler := func(w http.ResponseWriter, r *http.Request) {
				defer close(handled)
				if test.patient {
					Patient(r)
				}
				begin := time.Now()
				go func() {
					time.Sleep(time.Second) // fake clock
					c := From(r.Context())
					c.edge.mu.Lock()
					defer c.edge.mu.Unlock()
					states <- c.stateLocked()
				}()
				limit := int64(length)
				if test.patient {
					limit = 200
				}
				_, failed = io.Copy(io.Discard, io.LimitReader(r.Body, limit))
				took = time.Since(begin)
			}
			serve(t, handler, func(_ *world, dial func() net.Conn) {
				handled, states = make(chan struct{}), make(chan State, 1)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				nc := dial()
				_, _ = io.WriteString(nc, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 102400\r\n\r\n")
				go drip(ctx, nc, test.pieces, test.pause)
				<-handled
				go func() { _, _ = io.Copy(io.Discard, nc) }()
				if took < test.least || took > test.within {
					t.Errorf("%v, want %v to %v (%v)", took, test.least, test.within, failed)
				}
				whole := test.patient || test.pieces == bodyRate
				if whole != (failed == nil) || !whole && !errors.Is(failed, os.ErrDeadlineExceeded) {
					t.Errorf("reading: %v", failed)
				}
				if want := map[bool]State{true: StateHandler, false: StateBody}[test.patient]; want != <-states {
					t.Errorf("not in state %v meanwhile", want)
				}
				_ = nc.Close()
			})
		})
	}
}

// The time in which the handler does not read a body is not its peer's: whoever the handler passes it on to may be slow.
func TestBodyOfSlowReader(t *testing.T) {
	for _, proto := range []string{"1.1", "1.0"} {
		read, failed := int64(0), error(nil)
		var handled chan struct{} // of the bubble
		handler := func(_ http.ResponseWriter, r *http.Request) {
			defer close(handled)
			for failed == nil {
				var n int
				n, failed = r.Body.Read(make([]byte, 5000))
				read += int64(n)
				time.Sleep(bodyTimeout * 3) // fake clock
			}
		}
		serve(t, handler, func(_ *world, dial func() net.Conn) {
			handled = make(chan struct{})
			nc := dial()
			go func() {
				_, _ = fmt.Fprintf(nc, "POST / HTTP/%s\r\nHost: x\r\nContent-Length: 50000\r\n\r\n%s", proto, strings.Repeat("x", 50000))
			}()
			<-handled
			_ = nc.Close()
		})
		if read != 50000 || !errors.Is(failed, io.EOF) {
			t.Errorf("HTTP/%s: %d bytes, %v", proto, read, failed)
		}
	}
}

// The states of an HTTP/1 connection, from its first byte to its last.
func TestStates(t *testing.T) {
	var release chan struct{} // of the bubble
	handler := func(w http.ResponseWriter, _ *http.Request) {
		<-release
		_, _ = io.WriteString(w, "ok")
	}
	serve(t, handler, func(w *world, dial func() net.Conn) {
		release = make(chan struct{})
		want := func(want State) {
			t.Helper()
			synctest.Wait()
			for s, n := range w.Stats().Open {
				if n != map[bool]int{true: 1}[State(s) == want] {
					t.Errorf("%v: %d, want one in %v", State(s), n, want)
				}
			}
		}
		nc := dial()
		want(StateNew)
		_, _ = io.WriteString(nc, "GET / HTTP/1.1\r\nHo")
		want(StateHeader)
		_, _ = io.WriteString(nc, "st: x\r\n\r\n")
		want(StateHandler)
		close(release)
		want(StateAnswer) // which nobody reads yet
		resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		want(StateIdle)
		_ = nc.Close()
	})
}

// A write ends when the peer takes nothing for a while, and goes on as long as it takes a little.
func TestAnswerDeadline(t *testing.T) {
	for _, test := range []struct {
		name     string
		internal bool
		pause    time.Duration // between two bytes that are read
		want     time.Duration
		ok       bool
	}{
		{"a stranger that takes nothing", false, time.Hour, answerTimeout, false},
		{"a caller that takes nothing", true, time.Hour, callerTimeout, false},
		{"a stranger that takes little", false, 4 * time.Second, 100 * 4 * time.Second, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := newWorld(4, 2)
				client, conn := net.Pipe()
				kind := Plain
				if test.internal {
					kind = Caller
				}
				c := w.newConn(conn, kind)
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					for ctx.Err() == nil {
						select {
						case <-time.After(test.pause):
						case <-ctx.Done():
						}
						_, _ = client.Read(make([]byte, 1))
					}
				}()
				begin := time.Now()
				_, err := c.Write(make([]byte, 100))
				if took := time.Since(begin); took != test.want || (err == nil) != test.ok {
					t.Errorf("%v after %v, want %v", err, took, test.want)
				}
				cancel()
				_ = client.Close()
			})
		})
	}
}

// A deadline that was asked for holds, if it is shorter than the edge's.
func TestAskedDeadline(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(4, 2)
		client, conn := net.Pipe()
		c := w.newConn(conn, Plain)
		for _, asked := range []time.Duration{time.Second, answerTimeout / 2, answerTimeout - time.Second, time.Hour} {
			_ = c.SetDeadline(time.Now().Add(asked))
			begin := time.Now()
			if _, err := c.Write(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != min(asked, answerTimeout) {
				t.Errorf("%v: %v after %v", asked, err, time.Since(begin))
			}
		}
		_ = client.Close()
	})
}

// Who sends without end and asks for nothing is cut; who asks, answers or may call is not.
func TestFlood(t *testing.T) {
	const most = 8 << 20
	for _, test := range []struct {
		name  string
		with  func(c *Conn) // after each read
		flood bool
	}{
		{"nothing is asked for", func(*Conn) {}, true},
		{"a request for each 32 KiB", func(c *Conn) { used(c) }, false},
		{"what handlers read", func(c *Conn) { c.allowed.Add(32 << 10) }, false},
		{"acknowledgements of what was written", func(c *Conn) { c.written.Add(64 << 10) }, false},
		{"a caller of the internal API", func(c *Conn) { c.exempt.Store(true) }, false},
		{"little in much time", func(*Conn) { time.Sleep(2 * time.Second) }, false}, // fake clock
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := newWorld(4, 2)
				client, conn := net.Pipe()
				c := w.newConn(conn, Plain)
				w.admit(c)
				go func() {
					for {
						if _, err := client.Write(make([]byte, 32<<10)); err != nil {
							return
						}
					}
				}()
				buf := make([]byte, 32<<10)
				read, err := 0, error(nil)
				for err == nil && read < most {
					var n int
					n, err = c.Read(buf)
					read += n
					test.with(c)
				}
				if errors.Is(err, ErrFlood) != test.flood || test.flood && (read > floodStart || w.Stats().Floods != 1) {
					t.Errorf("%v after %d bytes", err, read)
				}
				_ = c.Close()
				_ = client.Close()
			})
		})
	}
}
