package examples

import (
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// way is a network between the page and the gateway, which can fall silent.
type way struct {
	url  string
	to   atomic.Int32 // the port of the gateway, on this host
	gate sync.RWMutex // who holds it stops what is on its way, in both directions
}

// newWay opens a way until the end of the test.
func newWay(t *testing.T) *way {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &way{url: "http://" + listener.Addr().String()}
	var running sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(int(w.to.Load())))
			if err != nil {
				client.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, client, server)
			mu.Unlock()
			running.Go(func() { w.carry(client, server) })
			running.Go(func() { w.carry(server, client) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return w
}

// carry brings bytes from one side to the other until either is closed.
func (w *way) carry(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		w.gate.RLock()
		_, err = to.Write(buffer[:n])
		w.gate.RUnlock()
		if err != nil {
			return
		}
	}
}
