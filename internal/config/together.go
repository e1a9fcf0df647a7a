package config

import (
	"errors"
	"fmt"
)

// contradictions returns the problems of settings that are valid, each by itself, and not together.
func (c *Config) contradictions() (problems []error) {
	never := func(is bool, text string) {
		if is {
			problems = append(problems, errors.New(text))
		}
	}
	for _, pair := range []struct{ cert, key, certFile, keyFile string }{
		{"TLS_CERT_FILE", "TLS_KEY_FILE", c.TLSCertFile, c.TLSKeyFile},
		{"INTERNAL_TLS_CERT_FILE", "INTERNAL_TLS_KEY_FILE", c.InternalTLSCertFile, c.InternalTLSKeyFile},
		{"BACKEND_CLIENT_CERT_FILE", "BACKEND_CLIENT_KEY_FILE", c.BackendClientCertFile, c.BackendClientKeyFile},
	} {
		never((pair.certFile == "") != (pair.keyFile == ""), fmt.Sprintf("%s and %s: one is set, the other is not; set both or neither", pair.cert, pair.key))
	}
	never(c.H2C && c.TLSCertFile != "", "H2C: not possible together with TLS_CERT_FILE, which offers HTTP/2 already")
	never(c.InternalTLSCertFile != "" && c.InternalAddr.Network != "tcp", "INTERNAL_TLS_CERT_FILE: only for an INTERNAL_ADDR that is host:port; set one, or leave it out")
	never(c.InternalClientCAFile != "" && c.InternalTLSCertFile == "", "INTERNAL_CLIENT_CA_FILE: certificates of callers need TLS; set INTERNAL_TLS_CERT_FILE and INTERNAL_TLS_KEY_FILE, too")
	if u, _, err := Backend(c.CallbackURL); err == nil {
		never(u.User != nil && c.CallbackToken != "", "CALLBACK_TOKEN: not possible together with a user in CALLBACK_URL, which takes the same header field; leave one out")
	}
	never(c.StateDir != "" && c.NATSURL != "", "STATE_DIR: not possible together with NATS_URL, which keeps the same for several gateways; set one of them")
	never((c.RelayURL == "") != (len(c.RelayPaths) == 0), "RELAY_URL and RELAY_PATHS: one is set, the other is not; set both or neither")
	never(c.relaysCallbacks(c.CallbackURL) || c.relaysCallbacks(c.CallbackURLBefore), "RELAY_PATHS: covers the path of CALLBACK_URL or CALLBACK_URL_BEFORE on the same host, so that anybody could forge callbacks; "+
		"set CALLBACK_SIGNING_SECRET or CALLBACK_TOKEN and have the application check it, or relay other paths")
	return problems
}
