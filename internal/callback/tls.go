package callback

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
)

// tlsSetup makes the TLS configuration of connections to the backend. A new one, without the sessions of the
// former, is made when what it is made of has changed.
type tlsSetup struct {
	host        string
	authorities func() *x509.CertPool   // nil: the system's
	certificate func() *tls.Certificate // nil: none

	mu      sync.Mutex
	current *tls.Config // nil: none was made yet
	shown   *tls.Certificate
	last    demand // of the backend, the last that it made
}

// demand is what a backend has done about a certificate of the gateway.
type demand uint8

const (
	undemanded demand = iota
	unmet             // asked for one, and there was none
	met               // asked for one, and got it
)

// refusal returns what a TLS alert of a backend then means; nil: something else.
func (d demand) refusal() error {
	switch d {
	case unmet:
		return errCertificate
	case met:
		return errCertificateRefused
	case undemanded:
	}
	return nil
}

func (s *tlsSetup) config() *tls.Config {
	var roots *x509.CertPool
	var shown *tls.Certificate
	if s.authorities != nil {
		roots = s.authorities()
	}
	if s.certificate != nil {
		shown = s.certificate()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil || s.current.RootCAs != roots || s.shown != shown {
		s.current, s.shown = newTLSConfig(s.host, roots, shown), shown
	}
	return s.current
}

func newTLSConfig(host string, roots *x509.CertPool, shown *tls.Certificate) *tls.Config {
	return &tls.Config{
		ServerName:         host,
		RootCAs:            roots,
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"http/1.1"},
		ClientSessionCache: tls.NewLRUClientSessionCache(1), // the pool's idle time is short, full handshakes are dear
		GetClientCertificate: func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			made, ok := info.Context().Value(demandKey{}).(*demand)
			if !ok {
				made = new(demand)
			}
			if shown != nil { // also if the backend names other authorities: it then says what is wrong
				*made = met
				return shown, nil
			}
			*made = unmet
			return &tls.Certificate{}, nil // none
		},
	}
}

// remember notes what the backend demanded in a handshake, and returns what counts for the connection: a session
// that is resumed goes on with what was demanded before.
func (s *tlsSetup) remember(made demand, resumed bool) demand {
	s.mu.Lock()
	defer s.mu.Unlock()
	if made == undemanded && resumed {
		return s.last
	}
	s.last = made
	return made
}

// demandKey is the context's key of the demand that a handshake sets.
type demandKey struct{}

// isAlert reports whether an error is a TLS alert from the peer. A backend that requires a
// client certificate sends one if it gets none.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}
