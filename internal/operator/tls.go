package operator

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"

	"ssegateway/internal/config"
)

// internalTLS returns the TLS of a client of a listener with INTERNAL_TLS_CERT_FILE. The client shows that certificate: a
// gateway with the same one knows its operator by it. It trusts this very certificate, and what the system vouches
// for. Whoever listens at a loopback address it takes for the gateway, as at the public port: the connection
// does not leave this host.
func internalTLS(cfg config.Config) *tls.Config {
	own := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cfg.InternalTLSCertFile, cfg.InternalTLSKeyFile)
		if err != nil {
			return nil, fmt.Errorf("INTERNAL_TLS_CERT_FILE and INTERNAL_TLS_KEY_FILE: %w", err)
		}
		return &pair, nil
	}
	at := config.Addr{Network: "tcp", Address: reachable(cfg.InternalAddr.Address)}
	return &tls.Config{
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own() },
		InsecureSkipVerify:   true, //nolint:gosec // VerifyConnection does
		VerifyConnection: func(state tls.ConnectionState) error {
			if at.IsLoopback() {
				return nil
			}
			pair, err := own()
			if err != nil {
				return err
			}
			shown := state.PeerCertificates
			if bytes.Equal(shown[0].Raw, pair.Certificate[0]) {
				return nil
			}
			host, _, err := net.SplitHostPort(at.Address)
			if err != nil {
				return err
			}
			between := x509.NewCertPool()
			for _, c := range shown[1:] {
				between.AddCert(c)
			}
			_, err = shown[0].Verify(x509.VerifyOptions{DNSName: host, Intermediates: between})
			return err
		},
	}
}
