package server

import (
	"cmp"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"ssegateway/internal/api"
	"ssegateway/internal/config"
	"ssegateway/internal/fastsend"
)

func TestMayCall(t *testing.T) {
	listed := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	moved := config.Addr{Network: "tcp", Address: "127.0.0.1:1"}
	everywhere := config.Addr{Network: "tcp", Address: ":1"}
	here := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	socket := config.Addr{Network: "unix", Address: "/s"}
	for name, c := range map[string]struct {
		cfg              config.Config
		caller           string
		host             string // "": localhost
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
		"a proxy, by CDN-Loop":   {caller: "127.0.0.1:1", header: http.Header{"Cdn-Loop": {"x"}}, public: api.ErrForbidden},
		"a proxy, by CF-…":       {caller: "127.0.0.1:1", header: http.Header{"Cf-Connecting-Ip": {"1.2.3.4"}}, public: api.ErrForbidden},
		"a proxy, by True-…":     {caller: "127.0.0.1:1", header: http.Header{"True-Client-Ip": {"1.2.3.4"}}, public: api.ErrForbidden},
		"a proxy, by X-Client-…": {caller: "127.0.0.1:1", header: http.Header{"X-Client-Ip": {"1.2.3.4"}}, public: api.ErrForbidden},
		"a proxy, by Fastly-…":   {caller: "127.0.0.1:1", header: http.Header{"Fastly-Client-Ip": {"1.2.3.4"}}, public: api.ErrForbidden},

		"a name that resolves here":              {caller: "127.0.0.1:1", host: "evil.example:1", public: api.ErrForbiddenHost},
		"the same, listed":                       {cfg: config.Config{InternalAllow: here}, caller: "127.0.0.1:1", host: "gateway.example:1"},
		"the same, listed, a page":               {cfg: config.Config{InternalAllow: here}, caller: "127.0.0.1:1", host: "evil.example", header: http.Header{"Origin": {"http://evil.example"}}, public: api.ErrForbidden},
		"the same, others listed":                {cfg: config.Config{InternalAllow: listed}, caller: "127.0.0.1:1", host: "evil.example:1", public: api.ErrForbiddenHost, internal: api.ErrForbiddenHost},
		"the same, with the token":               {cfg: config.Config{InternalToken: "t"}, caller: "127.0.0.1:1", host: "gateway.example", header: http.Header{"Authorization": {"Bearer t"}}},
		"the same, at a loopback listener":       {cfg: config.Config{InternalAddr: moved}, caller: "127.0.0.1:1", host: "evil.example", public: api.ErrForbidden, internal: api.ErrForbiddenHost},
		"a page, at a loopback listener":         {cfg: config.Config{InternalAddr: moved}, caller: "127.0.0.1:1", header: http.Header{"Origin": {"http://evil.example"}}, public: api.ErrForbidden, internal: api.ErrForbidden},
		"a proxy, at a loopback listener":        {cfg: config.Config{InternalAddr: moved}, caller: "127.0.0.1:1", header: http.Header{"Via": {"x"}}, public: api.ErrForbidden},
		"any name, at a listener for all":        {cfg: config.Config{InternalAddr: everywhere}, caller: "127.0.0.1:1", host: "gateway.example", public: api.ErrForbidden},
		"any name, at a unix socket":             {cfg: config.Config{InternalAddr: socket}, caller: "@", host: "gateway.example", public: api.ErrForbidden},
		"a page of this host":                    {caller: "127.0.0.1:1", header: http.Header{"Origin": {"http://localhost"}, "Sec-Fetch-Site": {"same-origin"}}},
		"typed in":                               {caller: "127.0.0.1:1", header: http.Header{"Sec-Fetch-Site": {"none"}}},
		"a page of another port":                 {caller: "127.0.0.1:1", header: http.Header{"Origin": {"http://localhost:8080"}}, public: api.ErrForbidden},
		"a page of another port, without Origin": {caller: "127.0.0.1:1", header: http.Header{"Sec-Fetch-Site": {"same-site"}}, public: api.ErrForbidden},
		"a page of another site, without Origin": {caller: "127.0.0.1:1", header: http.Header{"Sec-Fetch-Site": {"cross-site"}}, public: api.ErrForbidden},

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
			r.RemoteAddr, r.Header, r.Host = c.caller, c.header, cmp.Or(c.host, "localhost")
			if got := s.mayCall(r); got != c.public {
				t.Errorf("at the public port: %v, want %v", got, c.public)
			}
			if got := s.mayCallInternalListener(r); got != c.internal {
				t.Errorf("at a listener of its own: %v, want %v", got, c.internal)
			}
		})
	}
}

func TestIsLocalName(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST:3000": true, "127.0.0.1": true, "127.0.0.1:3000": true, "[::1]": true, "[::1]:3000": true,
		"10.1.2.3": true, "gateway": true, "gateway:3000": true, "a.localhost": true, "a.b.LocalHost:80": true,

		"": false, ":3000": false, "evil.example": false, "evil.example:3000": false, "localhost.": false, "localhost.evil.example": false,
		"evillocalhost.": false, ".localhost": false, "127.0.0.1.evil.example": false, "127.1": false, "[::1": false, "[::1]x": false,
		"[evil.example]": false, "[127.0.0.1]": false, "::1": false, "a:b:c": false, "evil.example.:80": false,
	} {
		if got := isLocalName(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

// What net/http's side takes for a mark of a proxy or a page, the short cut leaves to it.
func TestShortCutKnowsTheMarks(t *testing.T) {
	for _, name := range []string{
		"Forwarded", "Via", "CDN-Loop", "X-Real-IP", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "Fastly-Client-IP",
		"X-Forwarded-For", "X-Forwarded-", "Origin", "Sec-Fetch-Site",
	} {
		r := httptest.NewRequest(http.MethodPost, "/internal/send", nil)
		r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set(name, "cross-site")
		if problem := (&Server{}).mayCall(r); problem == nil || fastsend.Suits(r) {
			t.Errorf("%s: %v, suits %v", name, problem, fastsend.Suits(r))
		}
	}
}
