//go:build unix

package callback

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ssegateway/internal/gateway"
)

// A bearer token goes with every callback, and in no line of the log.
func TestToken(t *testing.T) {
	var l logBuffer
	var got atomic.Value
	b := httpBackend(t, func(_ http.ResponseWriter, r *http.Request) { got.Store(r.Header["Authorization"]) })
	c := newClient(t, Config{URL: b.URL, Token: "CANARY", SigningSecrets: secrets, Log: l.logger()})
	check(t, connect(t, c), gateway.Answer{Outcome: gateway.Accepted, Status: 200})
	if a, _ := got.Load().([]string); len(a) != 1 || a[0] != "Bearer CANARY" {
		t.Errorf("authorization %q", a)
	}
	if text := l.String(); strings.Contains(text, "CANARY") || strings.Contains(text, "whsec") || !strings.Contains(text, "result=accepted") {
		t.Errorf("log:\n%s", text)
	}
}

// unixBackend serves HTTP at a socket until the test ends.
func unixBackend(t *testing.T, h http.HandlerFunc) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	_ = s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return path
}

// At a Unix socket callbacks are as elsewhere.
func TestUnixSocket(t *testing.T) {
	requests := make(chan *http.Request, 10)
	path := unixBackend(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		requests <- r
	})
	c := newClient(t, Config{URL: "http://localhost/cb%2F?key=1", Socket: path})
	for range 3 {
		check(t, connect(t, c), gateway.Answer{Outcome: gateway.Accepted, Status: 200})
		if r := <-requests; r.RequestURI != "/cb%2F?key=1" || r.Host != "localhost" {
			t.Errorf("%s of %s", r.RequestURI, r.Host)
		}
	}
	c.Disconnect(gateway.Notice{Token: gateway.NewToken(), Request: request})
	<-requests

	gone := newClient(t, Config{URL: "http://localhost/", Socket: path + "x"})
	check(t, connect(t, gone), gateway.Answer{Outcome: gateway.Unreachable})
}

// The backend's certificate is checked with the authorities that are given, and it gets the gateway's. When these change
// the next connection has the new ones, and goes on with no session of the former.
func TestAuthoritiesAndCertificate(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := serverTLS(t)
		config.ClientAuth, config.MinVersion, config.MaxVersion = tls.RequireAnyClientCert, version, version
		shown := make(chan []byte, 10)
		addr := rawBackend(t, config, func(c net.Conn, in *bufio.Reader) {
			if readRequest(in) != nil {
				return
			}
			shown <- c.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		})
		leaf, err := x509.ParseCertificate(config.Certificates[0].Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		known := x509.NewCertPool()
		known.AddCert(leaf)
		var roots atomic.Pointer[x509.CertPool]
		var own atomic.Pointer[tls.Certificate]
		own.Store(&config.Certificates[0])
		c := newClient(t, Config{URL: "https://" + addr, Authorities: roots.Load, Certificate: own.Load})
		check(t, connect(t, c), gateway.Answer{Outcome: gateway.Unreachable}) // the system does not know it
		roots.Store(known)
		for range 2 {
			check(t, connect(t, c), gateway.Answer{Outcome: gateway.Accepted, Status: 200})
			if got := <-shown; !bytes.Equal(got, config.Certificates[0].Certificate[0]) {
				t.Error("the backend got another certificate")
			}
		}
		another := selfSigned(t)
		own.Store(&another)
		check(t, connect(t, c), gateway.Answer{Outcome: gateway.Accepted, Status: 200})
		if got := <-shown; !bytes.Equal(got, another.Certificate[0]) {
			t.Error("the backend got the former certificate")
		}
		roots.Store(x509.NewCertPool())
		check(t, connect(t, c), gateway.Answer{Outcome: gateway.Unreachable})
	}
}

// A backend that refuses the gateway's certificate is told from one that is away.
func TestBackendRefusesTheCertificate(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := serverTLS(t)
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		config.MinVersion, config.MaxVersion = version, version
		addr := rawBackend(t, config, func(c net.Conn, _ *bufio.Reader) { _, _ = c.Read(make([]byte, 1)) })
		own := selfSigned(t)
		var l logBuffer
		c := newTLSClient(t, Config{Log: l.logger(), Certificate: func() *tls.Certificate { return &own }}, addr, config)
		if got := connect(t, c); got.Outcome == gateway.Accepted || !strings.Contains(l.String(), "refuses the TLS client certificate of BACKEND_CLIENT_CERT_FILE") {
			t.Errorf("version %x: %v\n%s", version, got, l.String())
		}
	}
}

// ConnectTimeout is for connects, and Timeout for disconnects alone.
func TestConnectTimeout(t *testing.T) {
	var l logBuffer
	c := newClient(t, Config{URL: answers(t, ""), Timeout: time.Minute, ConnectTimeout: 50 * time.Millisecond, Log: l.logger()})
	c.Disconnect(gateway.Notice{Token: gateway.NewToken(), Request: request})
	start := time.Now()
	check(t, connect(t, c), gateway.Answer{Outcome: gateway.TimedOut})
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("the connect took %v", took)
	}
	if text := l.String(); strings.Contains(text, "action=disconnect") {
		t.Errorf("the disconnect has ended:\n%s", text)
	}
}

// selfSigned returns a certificate that nobody vouches for.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
