package server

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"time"

	"ssegateway/internal/logging"
)

// The settings that name the files of certificates with their keys, and of authorities.
type pairSettings struct{ cert, key string }

var (
	publicPair   = pairSettings{"TLS_CERT_FILE", "TLS_KEY_FILE"}
	internalPair = pairSettings{"INTERNAL_TLS_CERT_FILE", "INTERNAL_TLS_KEY_FILE"}
	backendPair  = pairSettings{"BACKEND_CLIENT_CERT_FILE", "BACKEND_CLIENT_KEY_FILE"}
)

const (
	backendAuthorities = "BACKEND_CA_FILE"
	callerAuthorities  = "INTERNAL_CLIENT_CA_FILE"
)

// certificate is a certificate with its key that follows its files.
type certificate = followed[tls.Certificate]

func newCertificate(settings pairSettings, certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{
		files: []string{certFile, keyFile}, what: "TLS certificate (" + settings.cert + ")", log: log, unusable: logging.Every(time.Minute),
		read: func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(certFile, keyFile)
			if err != nil {
				return nil, fmt.Errorf("%s and %s: %w", settings.cert, settings.key, err)
			}
			return &pair, nil
		},
		say: func(pair *tls.Certificate, changed bool) { sayPair(log, settings, pair, changed) },
	}
	err := c.load()
	return c, err
}

// sayPair logs that a changed pair is in use, or that the pair is not valid now.
func sayPair(log *slog.Logger, settings pairSettings, pair *tls.Certificate, changed bool) {
	leaf := pair.Leaf
	now := time.Now()
	switch {
	case leaf == nil:
	case now.After(leaf.NotAfter):
		log.Warn("the TLS certificate has expired, so it is refused", "setting", settings.cert, "expired", leaf.NotAfter)
	case now.Before(leaf.NotBefore):
		log.Warn("the TLS certificate is not valid yet, so it is refused", "setting", settings.cert, "valid_from", leaf.NotBefore)
	case changed:
		log.Info("the changed TLS certificate is in use", "setting", settings.cert, "expires", leaf.NotAfter)
	}
}

// served is how a TLS listener gets a certificate.
func served(c *certificate) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get(), nil }
}

// expiry returns when a pair expires.
func expiry(pair *tls.Certificate) time.Time {
	if pair.Leaf != nil {
		return pair.Leaf.NotAfter
	}
	return time.Time{}
}

// authorities are certificates that follow their file, to check others with.
type authorities = followed[x509.CertPool]

func newAuthorities(setting, file string, log *slog.Logger) (*authorities, error) {
	a := &authorities{
		files: []string{file}, what: "list of authorities (" + setting + ")", log: log, unusable: logging.Every(time.Minute),
		read: func() (*x509.CertPool, error) { return Authorities(setting, file) },
		say: func(_ *x509.CertPool, changed bool) {
			if changed {
				log.Info("the changed list of authorities is in use", "setting", setting)
			}
		},
	}
	err := a.load()
	return a, err
}

// Authorities reads the certificates in a file that a setting names.
func Authorities(setting, file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: there is no certificate in PEM in %s", setting, file)
	}
	return pool, nil
}
