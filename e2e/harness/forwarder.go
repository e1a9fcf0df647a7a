package harness

import (
	"bytes"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// Forwarder is the network between clients and a server. It can fail.
type Forwarder struct {
	Addr string // where clients reach the server

	listener net.Listener
	to       string
	running  sync.WaitGroup

	mu      sync.Mutex
	conns   map[net.Conn]*forwarded // by the client's connection
	refuses bool
	ended   bool
	left    []time.Time
	changed chan struct{} // closed when left has grown
}

type forwarded struct {
	server  net.Conn
	streams bool // an event stream began on it
}

// NewForwarder forwards to an address until the end of the test.
func NewForwarder(t testing.TB, to string) *Forwarder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &Forwarder{Addr: l.Addr().String(), listener: l, to: to, conns: map[net.Conn]*forwarded{}, changed: make(chan struct{})}
	f.running.Go(f.accept)
	t.Cleanup(func() {
		f.mu.Lock()
		f.ended = true
		f.mu.Unlock()
		_ = l.Close()
		f.Cut()
		f.running.Wait()
	})
	return f
}

func (f *Forwarder) accept() {
	for {
		client, err := f.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", f.to)
		f.mu.Lock()
		if err != nil || f.ended || f.refuses {
			_ = client.(*net.TCPConn).SetLinger(0)
			client.Close()
			if err == nil {
				server.Close()
			}
			f.mu.Unlock()
			continue
		}
		f.conns[client] = &forwarded{server: server}
		f.mu.Unlock()
		f.running.Go(func() {
			_, _ = io.Copy(server, client)
			f.end(client, true)
		})
		f.running.Go(func() {
			_, _ = io.Copy(watcher{f, client}, server)
			f.end(client, false)
		})
	}
}

// watcher writes to a client, and notes that an event stream begins.
type watcher struct {
	f      *Forwarder
	client net.Conn
}

func (w watcher) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("text/event-stream")) {
		w.f.mu.Lock()
		if c := w.f.conns[w.client]; c != nil {
			c.streams = true
		}
		w.f.mu.Unlock()
	}
	return w.client.Write(b)
}

// end closes both sides of a connection cleanly, since one of them was.
func (f *Forwarder) end(client net.Conn, byClient bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.conns[client]
	if c == nil {
		return // it was cut, or ended from the other side
	}
	delete(f.conns, client)
	client.Close()
	c.server.Close()
	if byClient && c.streams {
		f.left = append(f.left, time.Now())
		close(f.changed)
		f.changed = make(chan struct{})
	}
}

// Cut resets all connections: clients see an error in the middle of what they read.
func (f *Forwarder) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for client, c := range f.conns {
		_ = client.(*net.TCPConn).SetLinger(0)
		client.Close()
		c.server.Close()
	}
	clear(f.conns)
}

// Refuse has it reset each new connection, or no more.
func (f *Forwarder) Refuse(refuse bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuses = refuse
}

// AwaitLeft waits until clients have closed n connections on which an event stream had begun, and returns when they did.
func (f *Forwarder) AwaitLeft(t testing.TB, n int) []time.Time {
	t.Helper()
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	for {
		f.mu.Lock()
		left, changed := slices.Clone(f.left), f.changed
		f.mu.Unlock()
		if len(left) >= n {
			return left
		}
		select {
		case <-changed:
		case <-timer.C:
			t.Fatalf("clients closed %d of %d streams", len(left), n)
		}
	}
}
