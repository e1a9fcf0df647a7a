package server

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"time"

	"ssegateway/internal/logging"
)

// internalTLS returns the TLS of the listener of INTERNAL_ADDR.
func (s *Server) internalTLS() (*tls.Config, error) {
	own, err := newCertificate(internalPair, s.cfg.InternalTLSCertFile, s.cfg.InternalTLSKeyFile, s.log)
	if err != nil {
		return nil, err
	}
	s.follows(own)
	c := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: served(own), NextProtos: []string{"h2", "http/1.1"}}
	if s.cfg.InternalClientCAFile == "" {
		return c, nil
	}
	known, err := newAuthorities(callerAuthorities, s.cfg.InternalClientCAFile, s.log)
	if err != nil {
		return nil, err
	}
	s.follows(known)
	// Checked by checkCaller, with the authorities that there are then. A list of them in the handshake would be that of
	// the start, and a client may send nothing if its own are not on it.
	c.ClientAuth = tls.RequireAnyClientCert
	refused := logging.Every(time.Second)
	c.VerifyConnection = func(state tls.ConnectionState) error { // of resumed sessions too
		err := checkCaller(state.PeerCertificates, known.get(), own.get())
		if err != nil {
			refused.Log(s.log, slog.LevelWarn, "a caller of INTERNAL_ADDR is refused for its certificate", slog.String("error", err.Error()))
		}
		return err
	}
	return c, nil
}

// checkCaller returns why a caller with these certificates may not call. One that has the key of the listener's own
// certificate may: it is the operator of this gateway.
func checkCaller(shown []*x509.Certificate, known *x509.CertPool, own *tls.Certificate) error {
	if len(shown) == 0 {
		return errors.New("it has none")
	}
	if bytes.Equal(shown[0].Raw, own.Certificate[0]) {
		return nil
	}
	between := x509.NewCertPool()
	for _, c := range shown[1:] {
		between.AddCert(c)
	}
	_, err := shown[0].Verify(x509.VerifyOptions{Roots: known, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err
}
