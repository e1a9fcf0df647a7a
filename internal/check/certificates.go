package check

import (
	"crypto/tls"
	"time"

	"ssegateway/internal/config"
	"ssegateway/internal/server"
)

// certificates looks at the certificates with their keys, and at those of authorities.
func (r *report) certificates(cfg config.Config) {
	r.pair("TLS_CERT_FILE", "TLS_KEY_FILE", cfg.TLSCertFile, cfg.TLSKeyFile)
	r.pair("INTERNAL_TLS_CERT_FILE", "INTERNAL_TLS_KEY_FILE", cfg.InternalTLSCertFile, cfg.InternalTLSKeyFile)
	r.authorities("INTERNAL_CLIENT_CA_FILE", cfg.InternalClientCAFile)
	r.authorities("BACKEND_CA_FILE", cfg.BackendCAFile)
	r.pair("BACKEND_CLIENT_CERT_FILE", "BACKEND_CLIENT_KEY_FILE", cfg.BackendClientCertFile, cfg.BackendClientKeyFile)
}

func (r *report) pair(setting, keySetting, certFile, keyFile string) {
	if certFile == "" {
		return
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile) // checks that they match
	if err != nil {
		r.fail("%s and %s: %v", setting, keySetting, err)
		return
	}
	from, to := pair.Leaf.NotBefore, pair.Leaf.NotAfter
	switch now := time.Now(); {
	case now.Before(from):
		r.fail("%s: the certificate is not valid before %s: look at the clock of this host", setting, from.Format(time.RFC3339))
	case now.After(to):
		r.fail("%s: the certificate has expired on %s: renew it", setting, to.Format(time.RFC3339))
	case to.Sub(now) < soon:
		r.warn("%s: the certificate expires on %s, in %d days: renew it", setting, to.Format(time.RFC3339), to.Sub(now)/(24*time.Hour))
	default:
		r.ok("%s: the certificate matches its key, and is valid until %s", setting, to.Format(time.DateOnly))
	}
}

func (r *report) authorities(setting, file string) {
	if file == "" {
		return
	}
	if _, err := server.Authorities(setting, file); err != nil {
		r.fail("%v", err)
		return
	}
	r.ok("%s: %s has certificates", setting, file)
}
