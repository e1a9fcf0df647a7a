package contract

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"ssegateway/e2e/harness"
)

// theProxy is the address of the load balancer that these cases are.
const theProxy = "127.0.0.2"

// balancer begins each connection to the gateway with these bytes, and then carries what comes: a load balancer of TCP.
func (s *Site) balancer(begin []byte) harness.Endpoint {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	var all sync.WaitGroup
	s.t.Cleanup(all.Wait)
	s.t.Cleanup(func() { _ = l.Close() })
	to := s.endpoint.Addr
	carry := func(client net.Conn) {
		defer client.Close()
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(theProxy)}}
		gw, err := dialer.DialContext(s.t.Context(), "tcp", to)
		if err != nil {
			return
		}
		defer gw.Close()
		if _, err := gw.Write(begin); err != nil {
			return
		}
		all.Go(func() {
			_, _ = io.Copy(client, gw)
			_ = client.Close()
		})
		_, _ = io.Copy(gw, client)
	}
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { carry(client) })
		}
	})
	e := s.endpoint
	e.Addr = l.Addr().String()
	return e
}

// through is the same gateway behind a load balancer that begins so.
func (s *Site) through(begin []byte) *Site {
	s.t.Helper()
	other := *s
	other.endpoint = s.balancer(begin)
	return &other
}

func proxyV1(client string) []byte {
	family := "TCP4"
	if strings.Contains(client, ":") {
		family = "TCP6"
	}
	return fmt.Appendf(nil, "PROXY %s %s %s 4711 80\r\n", family, client, client)
}

func proxyV2(client string) []byte {
	addr := netip.MustParseAddr(client)
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), 0x21, 0x11, 0, 12)
	if addr.Is6() {
		b[13], b[15] = 0x21, 36
	}
	b = append(b, addr.AsSlice()...)
	b = append(b, addr.AsSlice()...)
	return append(b, 4711>>8, 4711&255, 0, 80)
}

var proxyProtocol = section{title: "2 PROXY protocol", cases: []contractCase{
	{name: "the address in the header is the peer's, and the stream is one as any other", run: func(t *T) {
		s := t.Start("PROXY_PROTOCOL=true", "TRUSTED_PROXIES="+theProxy, "MAX_CONNECTIONS_PER_IP=1")
		for name, header := range map[string]func(string) []byte{"version 1": proxyV1, "version 2": proxyV2} {
			for _, client := range []string{"198.51.100.7", "2001:db8::7"} {
				behind := s.through(header(client))
				x := behind.Open("/")
				if got := clientIP(t, x.Connect()); got != client {
					t.Errorf("%s: client_ip %q, want %s", name, got, client)
				}
				s.Event(x.token, name)
				x.WantEvents(name)
				behind.wantTooMany(harness.Request{Target: "/"}, 1, 5)
				x.Leave()
				if c := x.Disconnect(); clientIP(t, c) != client || c.Reason != "client_closed" {
					t.Errorf("%s: disconnect %s", name, c.Body)
				}
			}
		}
	}},
	{name: "a client's own header does not count behind a load balancer of TCP", run: func(t *T) {
		s := t.Start("PROXY_PROTOCOL=true", "TRUSTED_PROXIES="+theProxy)
		x := s.through(proxyV1("198.51.100.7")).OpenWith(fromAddr("203.0.113.9"), harness.Script{})
		if got := clientIP(t, x.Connect()); got != "198.51.100.7" {
			t.Errorf("client_ip %q", got)
		}
		// A proxy of HTTP behind the load balancer is believed.
		x = s.through(proxyV1(theProxy)).OpenWith(fromAddr("203.0.113.9"), harness.Script{})
		if got := clientIP(t, x.Connect()); got != "203.0.113.9" {
			t.Errorf("client_ip %q", got)
		}
	}},
	{name: "a trusted proxy without the header is turned away, and a warning says so; nobody else needs it", run: func(t *T) {
		s := t.Start("PROXY_PROTOCOL=true", "TRUSTED_PROXIES="+theProxy)
		if x, err := s.balancer(nil).Do(t.Context(), harness.Request{Target: "/"}); err == nil {
			if head, err := x.Head(patience); err == nil {
				t.Errorf("status %d", head.Status)
			}
			x.HangUp()
		}
		s.WantLog("WARN", "does not begin with a header of the PROXY protocol")
		s.Open("/")
		if got := s.Call(http.MethodGet, "/readyz", "").Status; got != http.StatusOK {
			t.Errorf("/readyz: %d", got)
		}
	}},
	{name: "a stranger's PROXY header opens nothing", run: func(t *T) {
		s := t.Start("PROXY_PROTOCOL=true", "TRUSTED_PROXIES=10.0.0.0/8")
		for _, header := range [][]byte{proxyV1("198.51.100.7"), proxyV2("198.51.100.7")} {
			x, err := s.balancer(header).Do(t.Context(), harness.Request{Target: "/"})
			if err != nil {
				continue // over TLS and HTTP/2 the connection ends
			}
			if head, err := x.Head(patience); err == nil && head.Status != http.StatusBadRequest {
				t.Errorf("status %d", head.Status)
			}
			x.HangUp()
		}
		if calls := s.backend.Calls(func(*harness.Callback) bool { return true }); len(calls) != 0 {
			t.Errorf("callback %s", calls[0].Body)
		}
	}},
	{name: "a header that does not come ends the connection after 10 s", slow: true, run: func(t *T) {
		s := t.Start("PROXY_PROTOCOL=true", "TRUSTED_PROXIES="+theProxy)
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(theProxy)}}
		nc, err := dialer.DialContext(t.Context(), "tcp", s.endpoint.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		begin := time.Now()
		_ = nc.SetReadDeadline(begin.Add(patience))
		if n, err := nc.Read(make([]byte, 1)); n > 0 || err == nil || time.Since(begin) < 9*time.Second {
			t.Errorf("%d bytes and %v after %v", n, err, time.Since(begin))
		}
	}},
	{name: "without the setting a PROXY header is a malformed request", run: func(t *T) {
		s := t.Start("TRUSTED_PROXIES=" + theProxy)
		x, err := s.balancer(proxyV1("198.51.100.7")).Do(t.Context(), harness.Request{Target: "/"})
		if err != nil {
			return // over TLS and HTTP/2 the connection ends
		}
		defer x.HangUp()
		if head, err := x.Head(patience); err == nil && head.Status != http.StatusBadRequest {
			t.Errorf("status %d", head.Status)
		}
	}},
}}
