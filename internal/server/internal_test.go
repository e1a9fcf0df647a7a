package server

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"ssegateway/internal/api"
	"ssegateway/internal/config"
)

func TestMayCall(t *testing.T) {
	listed := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	moved := config.Addr{Network: "tcp", Address: "127.0.0.1:1"}
	socket := config.Addr{Network: "unix", Address: "/s"}
	for name, c := range map[string]struct {
		cfg              config.Config
		caller           string
		header           http.Header
		public, internal *api.Error // at the public port, at a listener of its own
	}{
		"this host":              {caller: "127.0.0.1:1"},
		"this host, IPv6":        {caller: "[::1]:1"},
		"this host, mapped":      {caller: "[::ffff:127.0.0.9]:1"},
		"a stranger":             {caller: "192.0.2.1:1", public: api.ErrForbidden},
		"a proxy, by X-F-F":      {caller: "127.0.0.1:1", header: http.Header{"X-Forwarded-For": {"1.2.3.4"}}, public: api.ErrForbidden},
		"a proxy, by X-F-Other":  {caller: "127.0.0.1:1", header: http.Header{"X-Forwarded-Whatever": {""}}, public: api.ErrForbidden},
		"a proxy, by Forwarded":  {caller: "127.0.0.1:1", header: http.Header{"Forwarded": {""}}, public: api.ErrForbidden},
		"a proxy, by X-Real-IP":  {caller: "127.0.0.1:1", header: http.Header{"X-Real-Ip": {""}}, public: api.ErrForbidden},
		"a proxy, by Via":        {caller: "127.0.0.1:1", header: http.Header{"Via": {""}}, public: api.ErrForbidden},
		"a browser":              {caller: "127.0.0.1:1", header: http.Header{"Origin": {"null"}}, public: api.ErrForbidden},
		"listed":                 {cfg: config.Config{InternalAllow: listed}, caller: "10.1.2.3:1"},
		"listed, IPv6":           {cfg: config.Config{InternalAllow: listed}, caller: "[2001:db8::1]:1"},
		"listed, mapped":         {cfg: config.Config{InternalAllow: listed}, caller: "[::ffff:10.1.2.3]:1"},
		"listed, but a proxy":    {cfg: config.Config{InternalAllow: listed}, caller: "10.1.2.3:1", header: http.Header{"Via": {"x"}}, public: api.ErrForbidden},
		"not listed":             {cfg: config.Config{InternalAllow: listed}, caller: "11.1.2.3:1", public: api.ErrForbidden, internal: api.ErrForbidden},
		"not an address":         {caller: "@", public: api.ErrForbidden},
		"moved":                  {cfg: config.Config{InternalAddr: moved}, caller: "127.0.0.1:1", public: api.ErrForbidden},
		"moved, with a token":    {cfg: config.Config{InternalAddr: moved, InternalToken: "t"}, caller: "127.0.0.1:1", header: http.Header{"Authorization": {"Bearer t"}}, public: api.ErrForbidden},
		"unix socket, with list": {cfg: config.Config{InternalAddr: socket, InternalAllow: listed}, caller: "@", public: api.ErrForbidden},
		"token":                  {cfg: config.Config{InternalToken: "t"}, caller: "192.0.2.1:1", header: http.Header{"Authorization": {"Bearer t"}, "Via": {"x"}}},
		"token, scheme's case":   {cfg: config.Config{InternalToken: "t"}, caller: "192.0.2.1:1", header: http.Header{"Authorization": {"bearer t"}}},
		"no token":               {cfg: config.Config{InternalToken: "t"}, caller: "127.0.0.1:1", public: api.ErrUnauthorized, internal: api.ErrUnauthorized},
		"wrong token":            {cfg: config.Config{InternalToken: "t"}, caller: "127.0.0.1:1", header: http.Header{"Authorization": {"Bearer tt"}}, public: api.ErrUnauthorized, internal: api.ErrUnauthorized},
		"empty token":            {cfg: config.Config{InternalToken: "t"}, caller: "127.0.0.1:1", header: http.Header{"Authorization": {"Bearer "}}, public: api.ErrUnauthorized, internal: api.ErrUnauthorized},
		"other scheme":           {cfg: config.Config{InternalToken: "t"}, caller: "127.0.0.1:1", header: http.Header{"Authorization": {"Basic t"}}, public: api.ErrUnauthorized, internal: api.ErrUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Server{cfg: c.cfg}
			r := httptest.NewRequest(http.MethodPost, "/internal/send", nil)
			r.RemoteAddr, r.Header = c.caller, c.header
			if got := s.mayCall(r); got != c.public {
				t.Errorf("at the public port: %v, want %v", got, c.public)
			}
			if got := s.mayCallInternalListener(r); got != c.internal {
				t.Errorf("at a listener of its own: %v, want %v", got, c.internal)
			}
		})
	}
}
