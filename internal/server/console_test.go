package server

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"ssegateway/internal/api"
	"ssegateway/internal/config"
)

// The files of the console need no token, but a list holds for them; nothing else is to be had without the token. Where no token
// is asked for, they are as everything else.
func TestConsoleAccess(t *testing.T) {
	list := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	tcp := config.Addr{Network: "tcp", Address: "10.0.0.1:3001"}
	type calls = map[string]*api.Error // by method, target and caller
	for name, c := range map[string]struct {
		cfg  config.Config
		want calls
	}{
		"a token": {config.Config{Console: true, InternalToken: "x"}, calls{
			"GET /internal/console/ 192.0.2.1": nil, "HEAD /internal/console 192.0.2.1": nil, "GET /internal/console/app.js?x 127.0.0.1": nil,
			"POST /internal/console/ 127.0.0.1": api.ErrUnauthorized, "GET /internal/consoles 127.0.0.1": api.ErrUnauthorized, "GET /internal/stats 127.0.0.1": api.ErrUnauthorized,
			"GET /internal/x/../console/ 127.0.0.1": api.ErrUnauthorized,
		}},
		"a token and a list": {config.Config{Console: true, InternalToken: "x", InternalAllow: list}, calls{
			"GET /internal/console/ 192.0.2.1": api.ErrForbidden, "GET /internal/console/ 10.1.2.3": nil, "GET /internal/console/ 127.0.0.1": nil, "GET /internal/stats 10.1.2.3": api.ErrUnauthorized,
		}},
		"a token and no console": {config.Config{InternalToken: "x"}, calls{"GET /internal/console/ 127.0.0.1": api.ErrUnauthorized}},
		"no token":               {config.Config{Console: true}, calls{"GET /internal/console/ 192.0.2.1": api.ErrForbidden, "GET /internal/console/ 127.0.0.1": nil}},
		"a listener":             {config.Config{Console: true, InternalAddr: tcp, InternalToken: "x"}, calls{"GET /internal/console/ 192.0.2.1": nil, "GET /internal/stats 192.0.2.1": api.ErrUnauthorized}},
		"a listener and a list": {config.Config{Console: true, InternalAddr: tcp, InternalToken: "x", InternalAllow: list}, calls{
			"GET /internal/console/ 192.0.2.1": api.ErrForbidden, "GET /internal/console/ 10.0.0.2": nil,
		}},
		"a socket": {config.Config{Console: true, InternalAddr: config.Addr{Network: "unix", Address: "/s"}, InternalToken: "x", InternalAllow: list}, calls{
			"GET /internal/console/ @": nil, "GET /internal/stats @": api.ErrUnauthorized,
		}},
	} {
		s := &Server{cfg: c.cfg}
		for call, want := range c.want {
			parts := strings.Fields(call)
			r := httptest.NewRequest(parts[0], parts[1], http.NoBody)
			r.Host, r.RemoteAddr = "localhost", parts[2]+":1"
			may := s.mayCall
			if c.cfg.InternalAddr != (config.Addr{}) {
				may = s.mayCallInternalListener
			}
			if got := may(r); got != want {
				t.Errorf("%s: %s: %v, want %v", name, call, got, want)
			}
		}
	}
}
