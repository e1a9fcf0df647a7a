package server

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"ssegateway/internal/config"
)

// Where this host's own connections have to begin with a PROXY header, only another listener serves its backend.
func TestWarningOfProxyProtocol(t *testing.T) {
	for _, test := range []struct {
		trusted  string
		proxies  bool
		internal string
		want     bool
	}{
		{"127.0.0.0/8", true, "", true},
		{"127.0.0.1/32", true, "", true},
		{"::1/128", true, "", true},
		{"0.0.0.0/0", true, "", true},
		{"127.0.0.2/32", true, "", false},
		{"10.0.0.0/8", true, "", false},
		{"127.0.0.1/32", false, "", false},
		{"127.0.0.1/32", true, "127.0.0.1:9000", false},
	} {
		cfg := config.Config{CallbackURL: "http://b/", ProxyProtocol: test.proxies, TrustedProxies: []netip.Prefix{netip.MustParsePrefix(test.trusted)}}
		if test.internal != "" {
			cfg.InternalAddr = config.Addr{Network: "tcp", Address: test.internal}
		}
		got := slices.ContainsFunc(Warnings(cfg), func(w string) bool { return strings.HasPrefix(w, "PROXY_PROTOCOL") })
		if got != test.want {
			t.Errorf("%+v: warned %v", test, got)
		}
	}
}
