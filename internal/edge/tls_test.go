package edge

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/bubble"
)

// certificate returns one that net/http/httptest has.
func certificate() tls.Certificate {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	return s.TLS.Certificates[0]
}

// A peer has 10 s for its handshake. Meanwhile others are served, and Close ends it.
func TestHandshake(t *testing.T) {
	config := &tls.Config{Certificates: []tls.Certificate{certificate()}, NextProtos: []string{"http/1.1"}}
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(100, 10)
		l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		secure := w.ListenTLS(l, config, shown)
		server := &http.Server{ConnContext: Context, ConnState: Track, Handler: Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, r.TLS.NegotiatedProtocol)
		}))}
		served := make(chan error)
		go func() { served <- server.Serve(secure) }()
		dial := func() net.Conn {
			client, conn := net.Pipe()
			l.conns <- conn
			return client
		}
		isClosed := func(nc net.Conn) bool {
			_ = nc.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, err := nc.Read(make([]byte, 1))
			return errors.Is(err, io.EOF)
		}

		silent := dial()
		nc := tls.Client(dial(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		if _, err := io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(nc)
		answer := func(want string) {
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); string(body) != want || err != nil {
				t.Errorf("%q, %v, want %q", body, err, want)
			}
		}
		answer("http/1.1")
		go func() { _, _ = io.WriteString(nc, "GET / HTTP/1.1\r\nOrigin: o\r\n\r\n") }()
		answer("400 Bad Request: missing required Host header|o")
		_ = nc.NetConn().Close()
		time.Sleep(handshakeTimeout - time.Second) // fake clock
		if isClosed(silent) {
			t.Error("closed in the middle of its time")
		}
		time.Sleep(time.Second) // fake clock
		if !isClosed(silent) {
			t.Error("open after its time")
		}

		silent = dial()
		synctest.Wait()
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		if !isClosed(silent) {
			t.Error("open after the listener has ended")
		}
		synctest.Wait()
		if s := w.Stats(); s.Open != [StateHTTP2 + 1]int{} {
			t.Errorf("open in the end, by state: %v", s.Open)
		}
	})
}
