//go:build linux && !portable

package stream_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ssegateway/internal/edge"
	"ssegateway/internal/gateway"
	"ssegateway/internal/stream"
)

// fronted is a Front with a handler, and a server of net/http behind it. Each answers with its name.
type fronted struct {
	t        *testing.T
	addr     string
	opener   *stream.Opener
	listener net.Listener
	server   *http.Server
	edge     *edge.Edge
	passed   atomic.Int64 // connections that net/http got
}

func newFronted(t *testing.T, limit int, handler http.HandlerFunc) *fronted {
	t.Helper()
	f := &fronted{t: t}
	var err error
	if f.opener, err = stream.NewOpener(); err != nil {
		t.Fatal(err)
	}
	lc := stream.ListenConfig()
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = l.Addr().String()
	none := func() int { return 0 }
	f.edge = edge.New(edge.Config{Limit: limit, Streams: none, Senders: none, Log: slog.New(slog.DiscardHandler)})
	f.listener = f.edge.Listen(f.opener.Front(l, stream.FrontConfig{
		Edge: f.edge, Handles: func(target string) bool { return !strings.HasPrefix(target, "/other") },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "close")
			w.Header().Set("Handler", "front")
			handler(w, r)
		}),
	}), edge.Plain, nil)
	f.server = &http.Server{
		ReadHeaderTimeout: patience,
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				f.passed.Add(1)
			}
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Handler", "net/http")
			_, _ = io.Copy(w, r.Body)
		}),
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = f.opener.Run(ctx) })
	running.Go(func() { _ = f.server.Serve(f.listener) })
	t.Cleanup(func() {
		_ = f.server.Close()
		stop()
		running.Wait()
	})
	before := openFiles(t)
	t.Cleanup(func() { wait(t, "every descriptor is closed", func() bool { return openFiles(t) <= before }) })
	return f
}

// dial connects a client, which says what there is of its request.
func (f *fronted) dial(begin string) *net.TCPConn {
	f.t.Helper()
	c, err := net.Dial("tcp", f.addr)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	f.say(c, begin)
	return c.(*net.TCPConn) //nolint:forcetypeassert // of this network
}

func (f *fronted) say(c net.Conn, what string) {
	f.t.Helper()
	if _, err := io.WriteString(c, what); err != nil {
		f.t.Error(err)
	}
}

// want reads an answer, and checks whose it is. It returns its body.
func (f *fronted) want(c net.Conn, handler string) (body string) {
	f.t.Helper()
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		f.t.Fatal(err)
	}
	defer r.Body.Close()
	if got := r.Header.Get("Handler"); got != handler || r.StatusCode != http.StatusOK {
		f.t.Errorf("answered by %q with %s, want %q", got, r.Status, handler)
	}
	if r.Header.Get("Date") == "" {
		f.t.Error("no date")
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Error(err)
	}
	return string(text)
}

func nothing(http.ResponseWriter, *http.Request) {}

const plainGet = "GET /a?b HTTP/1.1\r\nHost: test\r\nX-A: 1\r\n\r\n"

func TestFrontAnswers(t *testing.T) {
	f := newFronted(t, 100, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Method, " ", r.RequestURI, " ", r.Host, " ", r.Header, " ", r.RemoteAddr)
	})
	for name, pieces := range map[string][]string{
		"whole": {plainGet}, "in two": {plainGet[:9], plainGet[9:]}, "its last byte alone": {plainGet[:len(plainGet)-1], plainGet[len(plainGet)-1:]},
	} {
		t.Run(name, func(t *testing.T) {
			f.t = t
			c := f.dial("")
			_ = c.SetNoDelay(true)
			for _, piece := range pieces {
				f.say(c, piece)
			}
			body := f.want(c, "front")
			if want := fmt.Sprint("GET /a?b test map[X-A:[1]] ", c.LocalAddr()); body != want {
				t.Errorf("%q, want %q", body, want)
			}
			if n, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("%d bytes more, %v", n, err)
			}
		})
	}
}

// What is no plain GET, or not the Front's, net/http gets with all its bytes.
func TestFrontPasses(t *testing.T) {
	f := newFronted(t, 100, nothing)
	for name, pieces := range map[string][]string{
		"another target":   {"GET /other HTTP/1.1\r\nHost: test\r\n\r\n"},
		"a body":           {"POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc"},
		"a body in pieces": {"PO", "ST /a HTTP/1.1\r\nHost: te", "st\r\nContent-Length: 3\r\n\r\n", "ab", "c"},
		"two requests":     {plainGet + plainGet},
		"bare line ends":   {"GET /a HTTP/1.1\nHost: test\n\n"},
		"HTTP/1.0":         {"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"},
		"a long head":      {"GET /a HTTP/1.1\r\nHost: test\r\nX: " + strings.Repeat("x", 20<<10) + "\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			f.t = t
			c := f.dial("")
			for _, piece := range pieces {
				f.say(c, piece)
			}
			if body := f.want(c, "net/http"); strings.Contains(name, "body") && body != "abc" {
				t.Errorf("%q", body)
			}
		})
	}
	t.Run("late", func(t *testing.T) {
		f.t = t
		before := f.passed.Load()
		silent, half := f.dial(""), f.dial(plainGet[:20])
		wait(t, "net/http has both", func() bool { return f.passed.Load() == before+2 }) // after a second
		f.say(silent, plainGet)
		f.say(half, plainGet[20:])
		f.want(silent, "net/http")
		f.want(half, "net/http")
	})
	t.Run("the end within the head", func(t *testing.T) {
		f.t = t
		c := f.dial(plainGet[:20])
		_ = c.CloseWrite()
		if _, err := io.ReadAll(c); err != nil {
			t.Error(err)
		}
	})
}

// A request that is not answered in time when the Front has ended is told that its client has left.
func TestSettleEndsRequests(t *testing.T) {
	begun, reason := make(chan struct{}), make(chan gateway.Reason, 1)
	f := newFronted(t, 100, func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		why, _ := stream.ClientOf(r.Context()).Left()
		reason <- why
	})
	c := f.dial(plainGet)
	<-begun
	if err := f.listener.Close(); err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	f.opener.Settle(over)
	if why := <-reason; why != gateway.ClientClosed {
		t.Errorf("the reason is %v", why)
	}
	f.want(c, "front")
}

// A client that leaves, or sends more, ends the context of its request, and the reason is known.
func TestFrontClientLeaves(t *testing.T) {
	type end struct {
		reason gateway.Reason
		detail gateway.Detail
	}
	for name, leave := range map[string]struct {
		with func(c *net.TCPConn)
		want end
	}{
		"FIN":   {func(c *net.TCPConn) { _ = c.CloseWrite() }, end{gateway.ClientClosed, 0}},
		"bytes": {func(c *net.TCPConn) { _, _ = c.Write([]byte("x")) }, end{gateway.Error, gateway.UnexpectedData}},
	} {
		for _, when := range []string{"with the request", "while it is handled"} {
			if name == "bytes" && when == "with the request" {
				continue // that is not the Front's, see TestFrontPasses
			}
			t.Run(name+" "+when, func(t *testing.T) {
				begun, ended := make(chan struct{}), make(chan end, 1)
				f := newFronted(t, 100, func(_ http.ResponseWriter, r *http.Request) {
					close(begun)
					<-r.Context().Done()
					reason, detail := stream.ClientOf(r.Context()).Left()
					ended <- end{reason, detail}
				})
				c := f.dial("")
				f.say(c, plainGet)
				if when == "while it is handled" {
					await(t, "the request is handled", begun)
				}
				leave.with(c)
				select {
				case got := <-ended:
					if got != leave.want {
						t.Errorf("%v, want %v", got, leave.want)
					}
				case <-time.After(patience):
					t.Fatal("the handler does not learn of it")
				}
			})
		}
	}
}

// A handler that panics ends its connection only.
func TestFrontPanics(t *testing.T) {
	f := newFronted(t, 100, func(_ http.ResponseWriter, r *http.Request) {
		if r.RequestURI == "/panic" {
			panic(http.ErrAbortHandler)
		}
	})
	for range 3 {
		c := f.dial("GET /panic HTTP/1.1\r\nHost: test\r\n\r\n")
		if answer, err := io.ReadAll(c); len(answer) > 0 || err != nil {
			t.Errorf("%q, %v", answer, err)
		}
		f.want(f.dial(plainGet), "front")
	}
}

// A connection whose request does not come makes room for others.
func TestFrontMakesRoom(t *testing.T) {
	const limit = 20
	f := newFronted(t, limit, nothing)
	var silent []net.Conn
	for range 3 * limit {
		silent = append(silent, f.dial(plainGet[:9]))
	}
	wait(t, "there was no room for most", func() bool { return f.edge.Stats().Evicted[edge.StateHeader] >= 2*limit })
	f.want(f.dial(plainGet), "front")
	open := 0
	for _, c := range silent {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			open++
		}
	}
	if open != limit-1 && open != limit {
		t.Errorf("%d are open, want %d or one less", open, limit)
	}
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// When the listener is closed, unfinished requests end, and those that are handled are answered.
func TestFrontCloses(t *testing.T) {
	begun, answer := make(chan struct{}), make(chan struct{})
	f := newFronted(t, 100, func(http.ResponseWriter, *http.Request) {
		close(begun)
		<-answer
	})
	half, handled := f.dial(plainGet[:9]), f.dial(plainGet)
	await(t, "the request is handled", begun)
	wait(t, "the other one has begun", func() bool { return f.edge.Stats().Open[edge.StateHeader] == 1 })
	if err := f.listener.Close(); err != nil {
		t.Error(err)
	}
	if got, err := io.ReadAll(half); len(got) > 0 || err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("%q, %v", got, err)
	}
	settling, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	f.opener.Settle(settling)
	if settling.Err() == nil {
		t.Error("settled while a request is handled")
	}
	settled := make(chan struct{})
	go func() {
		f.opener.Settle(t.Context())
		close(settled)
	}()
	close(answer)
	f.want(handled, "front")
	await(t, "all is settled", settled)
}
