package harness

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Protocol is the protocol of a connection.
type Protocol int

// The protocols.
const (
	HTTP1 Protocol = iota
	HTTP1TLS
	HTTP2TLS // by ALPN
	H2C      // by prior knowledge
)

const dialPatience = 10 * time.Second

// Endpoint is the address of a gateway, and the protocol to use there.
type Endpoint struct {
	Addr     string // host:port; or the path of a unix socket, which speaks HTTP1
	Protocol Protocol
	TLS      *tls.Config // for the protocols over TLS; its ALPN is set here
}

// Do starts an exchange on a connection of its own.
func (e Endpoint) Do(ctx context.Context, r Request) (*Exchange, error) {
	conn, err := e.Dial(ctx, r.ReceiveBuffer, r.LocalAddr)
	if err != nil {
		return nil, err
	}
	if r.Method == "" {
		r.Method = http.MethodGet
	}
	if r.Host == "" {
		r.Host = e.Addr
	}
	if e.Protocol == HTTP1 || e.Protocol == HTTP1TLS {
		return startHTTP1(conn, r)
	}
	client, err := NewHTTP2(conn)
	if err != nil {
		return nil, err
	}
	return client.Do(e, r)
}

// Dial opens a connection, including the TLS handshake.
func (e Endpoint) Dial(ctx context.Context, receiveBuffer int, localAddr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	dialer := net.Dialer{}
	if receiveBuffer > 0 {
		dialer.Control = receiveBufferControl(receiveBuffer)
	}
	if localAddr != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(localAddr)}
	}
	conn, err := dialer.DialContext(ctx, network(e.Addr), e.Addr)
	if err != nil || e.Protocol == HTTP1 || e.Protocol == H2C {
		return conn, err
	}
	config := e.TLS.Clone()
	want := "http/1.1"
	if e.Protocol == HTTP2TLS {
		want = "h2"
	}
	config.NextProtos = []string{want}
	if config.ServerName == "" {
		config.ServerName = "localhost"
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	if got := secured.ConnectionState().NegotiatedProtocol; got != want {
		conn.Close()
		return nil, fmt.Errorf("ALPN chose %q, not %q", got, want)
	}
	return secured, nil
}

// Scheme is "http" or "https".
func (e Endpoint) Scheme() string {
	if e.Protocol == HTTP1TLS || e.Protocol == HTTP2TLS {
		return "https"
	}
	return "http"
}

// Client returns an ordinary HTTP client, such as a backend would use. It speaks the protocol
// of the endpoint, and connects to the endpoint whatever the host of a URL is.
func (e Endpoint) Client() *http.Client {
	transport := &http.Transport{
		DisableCompression:  true,
		MaxIdleConnsPerHost: 64,
		Protocols:           new(http.Protocols),
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network(e.Addr), e.Addr)
		},
	}
	switch e.Protocol {
	case HTTP1, HTTP1TLS:
		transport.Protocols.SetHTTP1(true)
	case HTTP2TLS:
		transport.Protocols.SetHTTP2(true)
	case H2C:
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	if e.TLS != nil {
		transport.TLSClientConfig = e.TLS.Clone()
		transport.TLSClientConfig.ServerName = "localhost"
	}
	return &http.Client{
		Transport:     transport,
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func network(addr string) string {
	if addr[0] == '/' {
		return "unix"
	}
	return "tcp"
}
