package harness

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Network is the network between clients and a server. It can fail.
type Network struct {
	Addr string // where clients connect to

	to      string
	running sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]net.Conn // by the client's connection: the one to the server
	down  bool
	ended bool
}

// NewNetwork opens a network to an address until the end of the test.
func NewNetwork(t testing.TB, to string) *Network {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &Network{Addr: l.Addr().String(), to: to, conns: map[net.Conn]net.Conn{}}
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
		n.conns[client] = server
		n.mu.Unlock()
		for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
			n.running.Go(func() {
				_, _ = io.Copy(way[1], way[0])
				// When one side closes cleanly, close the other side cleanly, too.
				client.Close()
				server.Close()
			})
		}
	}
}

// Cut resets all connections: a client sees an error in the middle of its stream.
func (n *Network) Cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for client, server := range n.conns {
		_ = client.(*net.TCPConn).SetLinger(0)
		client.Close()
		server.Close()
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
