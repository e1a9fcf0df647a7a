package server

import (
	"strings"
	"testing"

	"ssegateway/internal/config"
)

func TestWarningsOfBackends(t *testing.T) {
	const unset, useless = "neither CALLBACK_URL nor RELAY_URL is set: not ready", "BACKEND_CA_FILE and BACKEND_CLIENT_CERT_FILE have no effect: neither"
	for _, c := range []struct {
		callback, relay, authorities, certificate, want string
	}{
		{"", "", "", "", unset},
		{"", "", "ca", "", unset},
		{"http://a/", "", "", "", ""},
		{"", "http://a", "", "", ""},
		{"http://a/", "", "ca", "", useless},
		{"http://a/", "", "", "pair", useless},
		{"", "http://a", "ca", "", useless},
		{"http://a/", "http://a", "ca", "pair", useless},
		{"unix:/run/a.sock", "", "ca", "", useless},
		{"https://a/", "", "ca", "", ""},
		{"", "https://a", "ca", "", ""},
		{"http://a/", "https://a", "", "pair", ""},
		{"https://a/", "http://a", "ca", "pair", ""},
		{"unix:/run/a.sock", "HTTPS://a", "ca", "", ""},
	} {
		cfg := config.Config{CallbackURL: c.callback, RelayURL: c.relay, BackendCAFile: c.authorities, BackendClientCertFile: c.certificate}
		got := strings.Join(Warnings(cfg), "; ")
		if !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
