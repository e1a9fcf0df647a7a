package edge

import (
	"bufio"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"
)

// overTLSWays are who makes the handshake: the edge, or net/http as a measure for it.
var overTLSWays = []struct {
	name  string
	serve func(w *world, server *http.Server, l net.Listener, config *tls.Config)
}{
	{"edge", func(w *world, server *http.Server, l net.Listener, config *tls.Config) {
		_ = server.Serve(w.ListenTLS(l, config, shown))
	}},
	{"nethttp", func(w *world, server *http.Server, l net.Listener, config *tls.Config) {
		server.TLSConfig = config
		_ = server.ServeTLS(w.Listen(l, overTLS, shown), "", "")
	}},
}

// secured runs a server for each way. dial returns a connection to it, before the handshake.
func secured(b *testing.B, run func(b *testing.B, w *world, dial func() net.Conn)) {
	for _, way := range overTLSWays {
		b.Run(way.name, func(b *testing.B) {
			l, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			w := newWorld(1<<20, 10)
			server := &http.Server{ErrorLog: log.New(io.Discard, "", 0), ConnContext: Context, ConnState: Track, ReadHeaderTimeout: time.Minute, Handler: Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))}
			done := make(chan struct{})
			go func() {
				defer close(done)
				way.serve(w, server, l, &tls.Config{Certificates: []tls.Certificate{certificate()}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
			}()
			defer func() {
				_ = server.Close()
				<-done
			}()
			run(b, w, func() net.Conn {
				nc, err := new(net.Dialer).DialContext(b.Context(), "tcp", l.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				return nc
			})
		})
	}
}

// ask makes a handshake and a request, and reads the answer.
func ask(b *testing.B, nc net.Conn) {
	over := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if _, err := io.WriteString(over, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		b.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(over), nil)
	if err != nil {
		b.Fatal(err)
	}
	_ = resp.Body.Close()
}

// opened returns how many connections a server has.
func opened(w *world) (n int) {
	for _, in := range w.Stats().Open {
		n += in
	}
	return n
}

// BenchmarkTLS is a connection over TLS, with one request on it.
func BenchmarkTLS(b *testing.B) {
	secured(b, func(b *testing.B, _ *world, dial func() net.Conn) {
		b.ReportAllocs()
		for b.Loop() {
			nc := dial()
			ask(b, nc)
			_ = nc.Close()
		}
	})
}

// BenchmarkTLSMemory is the memory of this process for each connection over TLS: of one that has begun no handshake, and
// of one that is idle behind a request. The client's share is in the latter.
func BenchmarkTLSMemory(b *testing.B) {
	for name, prepare := range map[string]func(*testing.B, net.Conn){"silent": func(*testing.B, net.Conn) {}, "idle": ask} {
		b.Run(name, func(b *testing.B) {
			secured(b, func(b *testing.B, w *world, dial func() net.Conn) {
				const peers = 2000
				var before, after runtime.MemStats
				b.ReportMetric(0, "ns/op")
				for b.Loop() {
					var conns [peers]net.Conn
					runtime.GC()
					runtime.ReadMemStats(&before)
					for i := range conns {
						conns[i] = dial()
						prepare(b, conns[i])
					}
					for opened(w) < peers {
						runtime.Gosched() // the server is behind
					}
					runtime.GC()
					runtime.ReadMemStats(&after)
					for _, nc := range &conns {
						_ = nc.Close()
					}
				}
				used := func(m *runtime.MemStats) uint64 { return m.HeapAlloc + m.StackInuse }
				b.ReportMetric(float64(used(&after)-used(&before))/peers, "B/peer")
			})
		})
	}
}
