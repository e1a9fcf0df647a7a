//go:build !portable

package server

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ssegateway/internal/gateway"
)

// What net/http would answer by itself, without the edge, is refused like other methods.
func TestOptionsOfServer(t *testing.T) {
	r := start(t, nil)
	c := r.dial()
	began := time.Now()
	c.write("OPTIONS * HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
	if status, body := c.answer(); status != http.StatusMethodNotAllowed || !strings.Contains(body, "METHOD_NOT_ALLOWED") {
		t.Errorf("%d %q", status, body)
	}
	if took := time.Since(began); took > 5*time.Second { // net/http waits 20 s for the body
		t.Errorf("answered after %v", took)
	}
}

// A stream has the socket that it would have had if its client had made no internal call before.
func TestStreamBehindCalls(t *testing.T) {
	r := start(t, nil)
	const stats = "GET /internal/stats HTTP/1.1\r\nHost: localhost\r\n\r\n"
	const send = "POST /internal/send HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n" + `{"token":"x"}`
	for name, calls := range map[string][]string{"none": nil, "one": {stats}, "by the short cut": {send, send, send}} {
		c := r.dial()
		for _, call := range calls {
			c.write(call)
			_, _ = c.answer()
		}
		c.write("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
		resp, err := http.ReadResponse(c.in, nil) //nolint:bodyclose // it lasts as long as its connection
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(name, resp, err)
		}
		fd := peerOf(t, c.Conn)
		for option, want := range map[[2]int]int{
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE}:      0,
			{unix.SOL_SOCKET, unix.SO_SNDBUF}:         64 << 10,
			{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT}: int(gateway.StallDeadline.Milliseconds()),
		} {
			if got, err := unix.GetsockoptInt(fd, option[0], option[1]); got != want || err != nil {
				t.Errorf("%s: option %v is %d, want %d; %v", name, option, got, want, err)
			}
		}
		_ = c.Close()
		<-r.ends
	}
}

// peerOf returns the descriptor of the other end of a connection, which is this process's too.
func peerOf(t *testing.T, nc net.Conn) int {
	t.Helper()
	port := nc.LocalAddr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is one
	for fd := range 1 << 10 {
		switch a, _ := unix.Getpeername(fd); a := a.(type) {
		case *unix.SockaddrInet4:
			if a.Port == port {
				return fd
			}
		case *unix.SockaddrInet6:
			if a.Port == port {
				return fd
			}
		}
	}
	t.Fatal("no such socket")
	return -1
}
