package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/netip"
	"strings"

	"ssegateway/internal/api"
	"ssegateway/internal/config"
	"ssegateway/internal/edge"
)

// serveInternalListener routes the requests at the separate listener of /internal.
func (s *Server) serveInternalListener(w http.ResponseWriter, r *http.Request) {
	if healthPath(target(r)) != "" {
		s.serveHealth(w, r)
		return
	}
	if problem := s.mayCallInternalListener(r); problem != nil {
		refuse(w, r, problem)
		return
	}
	s.serveInternal(w, r)
}

// serveInternal serves a request of a caller that is allowed to call.
func (s *Server) serveInternal(w http.ResponseWriter, r *http.Request) {
	if s.isConsole(r) {
		serveConsole(w, r)
		return
	}
	edge.Trust(r.Context())
	w = edge.Answer(w, r)
	if target(r) == "/metrics" {
		if api.Allow(w, r, http.MethodGet, http.MethodHead) {
			s.metrics.ServeHTTP(w, r)
		}
		return
	}
	if s.cfg.PProf && strings.HasPrefix(target(r), profilePath) {
		serveProfile(w, r)
		return
	}
	if !s.isLogOpen() {
		api.ErrBroker.Write(w)
		return
	}
	if !s.keepSender(w, r) {
		s.serveAPI(w, r)
	}
}

// mayCall decides about an internal request at the public port, where browsers
// call, too. Without a token only a caller on this host, or a listed one, may call, and
// the request must not have come through a proxy.
func (s *Server) mayCall(r *http.Request) *api.Error {
	if s.cfg.InternalAddr != (config.Addr{}) {
		return api.ErrForbidden
	}
	if s.cfg.InternalToken != "" {
		return s.checkToken(r)
	}
	if isForwarded(r) {
		return api.ErrForbidden
	}
	caller := callerAddr(r)
	switch {
	case s.isListed(caller):
		if len(r.Header["Origin"]) > 0 { // a browser's
			return api.ErrForbidden
		}
		return nil
	case caller.IsLoopback():
		return checkLocal(r)
	default:
		return api.ErrForbidden
	}
}

// mayCallInternalListener decides at the separate listener of /internal: everybody who
// reaches it may call, unless a token or a list of callers is configured, or only this
// host can reach it.
func (s *Server) mayCallInternalListener(r *http.Request) *api.Error {
	if s.cfg.InternalToken != "" {
		return s.checkToken(r)
	}
	if s.cfg.InternalAddr.Network == "unix" {
		return nil
	}
	caller := callerAddr(r)
	switch {
	case s.isListed(caller):
		return nil
	case caller.IsLoopback() && (len(s.cfg.InternalAllow) > 0 || s.cfg.InternalAddr.IsLoopback()):
		return checkLocal(r)
	case len(s.cfg.InternalAllow) > 0:
		return api.ErrForbidden
	default:
		return nil
	}
}

func (s *Server) checkToken(r *http.Request) *api.Error {
	if s.isConsole(r) {
		return s.mayLoadConsole(r)
	}
	if !s.isToken(r.Header.Get("Authorization")) {
		return api.ErrUnauthorized
	}
	return nil
}

// isToken compares in constant time, also for tokens of different lengths.
func (s *Server) isToken(authorization string) bool {
	scheme, given, _ := strings.Cut(authorization, " ")
	want, got := sha256.Sum256([]byte(s.cfg.InternalToken)), sha256.Sum256([]byte(given))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(want[:], got[:]) == 1
}

// callerAddr returns the address that a request came from; the zero Addr if it has none.
func callerAddr(r *http.Request) netip.Addr {
	caller, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return caller.Addr().Unmap().WithZone("")
}

// isListed reports whether an address is in INTERNAL_ALLOW.
func (s *Server) isListed(addr netip.Addr) bool {
	for _, prefix := range s.cfg.InternalAllow {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// isForwarded reports whether a request has a header field that proxies add. fastsend.Suits
// checks the same fields.
func isForwarded(r *http.Request) bool {
	for name := range r.Header {
		switch name {
		case "Forwarded", "Via", "Cdn-Loop", // of RFC 7239, RFC 9110, RFC 8586
			"X-Real-Ip", "X-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "Fastly-Client-Ip":
			return true
		}
		if strings.HasPrefix(name, "X-Forwarded-") {
			return true
		}
	}
	return false
}
