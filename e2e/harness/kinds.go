package harness

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"strconv"
)

// Kind is one way to serve and to reach streams.
type Kind struct {
	Name     string
	Protocol Protocol
	Command  []string
	Settings []string     // NAME=value
	Cert     *Certificate // nil: without TLS
}

// The names of the kinds.
const (
	Detached = "detached"  // HTTP/1.1 on a socket taken over from net/http (Linux)
	Parked   = "parked"    // HTTP/1.1, as on systems other than Linux
	TLSHTTP1 = "tls-http1" // HTTP/1.1 over TLS
	TLSHTTP2 = "tls-http2" // HTTP/2 by ALPN
	H2CHTTP2 = "h2c"       // HTTP/2 by prior knowledge
)

// KindsOf returns all kinds of a gateway, of which portable is the program with the tag of
// that name. Their certificate is made in dir.
func KindsOf(dir, standard, portable string) ([]Kind, error) {
	cert, err := NewCertificate(dir)
	if err != nil {
		return nil, err
	}
	withTLS := []string{"TLS_CERT_FILE=" + cert.CertFile, "TLS_KEY_FILE=" + cert.KeyFile}
	return []Kind{
		{Name: Detached, Command: []string{standard}},
		{Name: Parked, Command: []string{portable}},
		{Name: TLSHTTP1, Protocol: HTTP1TLS, Command: []string{standard}, Settings: withTLS, Cert: cert},
		{Name: TLSHTTP2, Protocol: HTTP2TLS, Command: []string{standard}, Settings: withTLS, Cert: cert},
		{Name: H2CHTTP2, Protocol: H2C, Command: []string{standard}, Settings: []string{"H2C=true"}},
	}, nil
}

// BuildKinds builds the gateway both ways into dir, and returns all kinds of it.
func BuildKinds(dir string) ([]Kind, error) {
	standard, err := Build(filepath.Join(dir, "standard"))
	if err != nil {
		return nil, err
	}
	portable, err := Build(filepath.Join(dir, "portable"), "-tags", "portable")
	if err != nil {
		return nil, err
	}
	return KindsOf(dir, standard, portable)
}

// At returns the endpoint of a gateway of this kind.
func (k Kind) At(host string, port int) Endpoint {
	e := Endpoint{Addr: net.JoinHostPort(host, strconv.Itoa(port)), Protocol: k.Protocol}
	if k.Cert != nil {
		e.TLS = &tls.Config{RootCAs: k.Cert.Roots, MinVersion: tls.VersionTLS12}
	}
	return e
}
