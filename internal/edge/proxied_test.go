package edge

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pires/go-proxyproto"

	"ssegateway/internal/bubble"
)

// peerConn is a connection with an address.
type peerConn struct {
	net.Conn
	addr string
}

func (c peerConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.addr))
}

// proxySite is a server behind proxies, whose answers are the address that it sees.
type proxySite struct {
	*world
	l      *pipes
	server *http.Server
	served chan error
	log    lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const aProxy, aStranger = "10.0.0.1:1000", "192.0.2.1:1000"

func isProxy(addr netip.Addr) bool { return netip.MustParsePrefix("10.0.0.0/8").Contains(addr) }

func newProxySite(limit int, config *tls.Config) *proxySite {
	s := &proxySite{world: newWorld(limit, 10), l: &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}, served: make(chan error, 1)}
	s.cfg.Log = slog.New(slog.NewTextHandler(&s.log, nil))
	s.server = &http.Server{ConnContext: Context, ConnState: Track, Handler: Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.RemoteAddr)
	}))}
	listener := s.ListenProxied(s.l, isProxy, config, shown)
	go func() { s.served <- s.server.Serve(listener) }()
	return s
}

func (s *proxySite) close(t *testing.T) {
	_ = s.server.Close()
	if err := <-s.served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	synctest.Wait()
	if n := s.open; n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

func (s *proxySite) dial(addr string) net.Conn {
	client, conn := net.Pipe()
	s.l.conns <- peerConn{conn, addr}
	return client
}

const get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

// answerTo writes bytes in pieces, and returns the status and body of the answer; 0 if the connection was closed.
func answerTo(t *testing.T, nc net.Conn, pieces ...string) (status int, body string) {
	t.Helper()
	go func() {
		for _, p := range pieces {
			_, _ = io.WriteString(nc, p)
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, string(b)
}

func header(t *testing.T, version byte, command proxyproto.ProtocolVersionAndCommand, family proxyproto.AddressFamilyAndProtocol, from net.Addr, padding int) string {
	t.Helper()
	h := &proxyproto.Header{Version: version, Command: command, TransportProtocol: family, SourceAddr: from, DestinationAddr: from}
	if padding > 0 {
		if err := h.SetTLVs([]proxyproto.TLV{{Type: proxyproto.PP2_TYPE_NOOP, Value: make([]byte, padding)}}); err != nil {
			t.Fatal(err)
		}
	}
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func tcp(addr string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr)) }

func TestProxyHeaders(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newProxySite(1000, nil)
		v2 := header(t, 2, proxyproto.PROXY, proxyproto.TCPv4, tcp("198.51.100.7:4711"), 0)
		for name, test := range map[string]struct {
			peer, begin string
			status      int
			body        string
		}{
			"version 1":                         {aProxy, "PROXY TCP4 198.51.100.7 127.0.0.1 4711 80\r\n", 200, "198.51.100.7:4711"},
			"version 1, IPv6":                   {aProxy, "PROXY TCP6 2001:db8::7 ::1 4711 80\r\n", 200, "[2001:db8::7]:4711"},
			"version 1, unknown":                {aProxy, "PROXY UNKNOWN\r\n", 200, aProxy},
			"version 2":                         {aProxy, v2, 200, "198.51.100.7:4711"},
			"version 2, IPv6":                   {aProxy, header(t, 2, proxyproto.PROXY, proxyproto.TCPv6, tcp("[2001:db8::7]:4711"), 0), 200, "[2001:db8::7]:4711"},
			"version 2, much behind it":         {aProxy, header(t, 2, proxyproto.PROXY, proxyproto.TCPv4, tcp("198.51.100.7:4711"), 1000), 200, "198.51.100.7:4711"},
			"version 2, a check":                {aProxy, header(t, 2, proxyproto.LOCAL, proxyproto.UNSPEC, nil, 0), 200, aProxy},
			"version 2, a check with addresses": {aProxy, strings.Replace(v2, "QUIT\n\x21", "QUIT\n\x20", 1), 200, aProxy},
			"a proxy without it":                {aProxy, "", 0, ""},
			"a proxy with half of it":           {aProxy, "PROXY TCP4 198.51.100.7\r\n", 0, ""},
			"a proxy with nonsense":             {aProxy, "PROXY TCP4 198.51.100.777 127.0.0.1 4711 80\r\n", 0, ""},
			"a stranger without it":             {aStranger, "", 200, aStranger},
			"a stranger with version 1":         {aStranger, "PROXY TCP4 198.51.100.7 127.0.0.1 4711 80\r\n", 400, ""},
			"a stranger with version 2":         {aStranger, v2, 400, ""},
			"a proxy that sends it twice":       {aProxy, "PROXY TCP4 198.51.100.7 127.0.0.1 4711 80\r\nPROXY TCP4 198.51.100.8 127.0.0.1 4711 80\r\n", 400, ""},
		} {
			ways := map[string][]string{"at once": {test.begin + get}, "header first": {test.begin, get}, "byte by byte": strings.Split(test.begin+get, "")}
			for pieces, all := range ways {
				nc := s.dial(test.peer)
				status, body := answerTo(t, nc, all...)
				if status != test.status || status == 200 && body != test.body {
					t.Errorf("%s, %s: %d %q, want %d %q", name, pieces, status, body, test.status, test.body)
				}
				_ = nc.Close()
			}
		}
		synctest.Wait()
		if said := strings.Count(s.log.String(), "level=WARN"); said != 1 { // within the same second
			t.Errorf("%d warnings: %s", said, &s.log)
		}
		s.close(t)
	})
}

// The connection goes on behind the header as any other.
func TestProxyHeaderBeforeTLS(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newProxySite(100, &tls.Config{Certificates: []tls.Certificate{certificate()}, NextProtos: []string{"http/1.1"}})
		for peer, want := range map[string]string{aProxy: "198.51.100.7:4711", aStranger: aStranger} {
			raw := s.dial(peer)
			if peer == aProxy {
				if _, err := io.WriteString(raw, "PROXY TCP4 198.51.100.7 127.0.0.1 4711 80\r\n"); err != nil {
					t.Fatal(err)
				}
			}
			nc := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
			for range 2 {
				if status, body := answerTo(t, nc, get); status != 200 || body != want {
					t.Errorf("%s: %d %q, want %q", peer, status, body, want)
				}
			}
			_ = raw.Close()
		}
		s.close(t)
	})
}

// A proxy has 10 s for its header, is on the account meanwhile, and makes room. One that only looks whether somebody
// listens is no reason for a warning.
func TestProxyWithoutHeader(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newProxySite(2, nil)
		isClosed := func(nc net.Conn) bool {
			_ = nc.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, err := nc.Read(make([]byte, 1))
			return errors.Is(err, io.EOF)
		}
		silent := s.dial(aProxy)
		time.Sleep(headerTimeout - time.Second) // fake clock
		if s.Stats().Open[StateNew] != 1 || isClosed(silent) {
			t.Error("closed in the middle of its time")
		}
		time.Sleep(time.Second) // fake clock
		if s.Stats().Open[StateNew] != 0 || !isClosed(silent) {
			t.Error("open after its time")
		}
		_ = s.dial(aProxy).Close()
		idle := s.dial(aProxy)
		if _, err := io.WriteString(idle, "PROXY UNKNOWN\r\n"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * headerTimeout) // fake clock; the header's deadline is not the request's
		if status, _ := answerTo(t, idle, get); status != 200 {
			t.Errorf("status %d of a request that came long behind its header", status)
		}
		_ = idle.Close()
		synctest.Wait()
		if text := s.log.String(); text != "" {
			t.Error(text)
		}

		slow := s.dial(aProxy)
		if _, err := io.WriteString(slow, "PROXY TCP4 "); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		s.dial(aProxy)
		time.Sleep(freshTime) // fake clock
		if status, _ := answerTo(t, s.dial(aStranger), get); status != 200 || !isClosed(slow) {
			t.Errorf("status %d, and the one that has waited for longest is closed: %v", status, isClosed(slow))
		}
		s.close(t) // which ends the one that still waits
	})
}
