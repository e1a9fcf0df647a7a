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

// Network is the network between clients and a server. It can fail.
type Network struct {
	Addr string // where clients connect to

	to      string
	running sync.WaitGroup

	mu      sync.Mutex
	conns   map[net.Conn]*carried // by the client's connection
	down    bool
	ended   bool
	left    []time.Time   // when clients closed connections on which an event stream had begun
	changed chan struct{} // closed when there is one more
}

// carried is the connection to the server for one of a client's.
type carried struct {
	server  net.Conn
	streams bool // an event stream has begun on it
}

// NewNetwork opens a network to an address until the end of the test.
func NewNetwork(t testing.TB, to string) *Network {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &Network{Addr: l.Addr().String(), to: to, conns: map[net.Conn]*carried{}, changed: make(chan struct{})}
	n.running.Go(func() { n.accept(l) })
	t.Cleanup(func() {
		n.mu.Lock()
		n.ended = true
		n.mu.Unlock()
		_ = l.Close()
		n.Cut()
		n.running.Wait()
	})
	return n
}

func (n *Network) accept(l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", n.to)
		n.mu.Lock()
		if err != nil || n.ended || n.down {
			client.Close()
			if err == nil {
				server.Close()
			}
			n.mu.Unlock()
			continue
		}
		n.conns[client] = &carried{server: server}
		n.mu.Unlock()
		n.running.Go(func() {
			_, _ = io.Copy(server, client)
			n.end(client, true)
		})
		n.running.Go(func() {
			_, _ = io.Copy(watcher{n, client}, server)
			n.end(client, false)
		})
	}
}

// watcher writes to a client, and notes when an event stream begins.
type watcher struct {
	n      *Network
	client net.Conn
}

func (w watcher) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("text/event-stream")) {
		w.n.mu.Lock()
		if l := w.n.conns[w.client]; l != nil {
			l.streams = true
		}
		w.n.mu.Unlock()
	}
	return w.client.Write(b)
}

// end closes both sides of a connection cleanly when one of them was.
func (n *Network) end(client net.Conn, byClient bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.conns[client]
	if l == nil {
		return // it was cut, or the other side has ended it
	}
	delete(n.conns, client)
	client.Close()
	l.server.Close()
	if byClient && l.streams {
		n.left = append(n.left, time.Now())
		close(n.changed)
		n.changed = make(chan struct{})
	}
}

// AwaitLeft waits until clients have closed count connections without TLS on which an event stream had begun, and returns
// when they did.
func (n *Network) AwaitLeft(t testing.TB, count int) []time.Time {
	t.Helper()
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	for {
		n.mu.Lock()
		left, changed := slices.Clone(n.left), n.changed
		n.mu.Unlock()
		if len(left) >= count {
			return left
		}
		select {
		case <-changed:
		case <-timer.C:
			t.Fatalf("clients closed %d of %d streams", len(left), count)
		}
	}
}

// Cut resets all connections: a client sees an error in the middle of its stream.
func (n *Network) Cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for client, l := range n.conns {
		_ = client.(*net.TCPConn).SetLinger(0)
		client.Close()
		l.server.Close()
	}
	clear(n.conns)
}

// SetDown takes the network down, which cuts it, or brings it up again. While it is down, it closes what connects.
func (n *Network) SetDown(down bool) {
	n.mu.Lock()
	n.down = down
	n.mu.Unlock()
	if down {
		n.Cut()
	}
}
