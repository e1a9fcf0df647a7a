package server

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"ssegateway/internal/address"
	"ssegateway/internal/api"
	"ssegateway/internal/config"
	"ssegateway/internal/edge"
	"ssegateway/internal/gateway"
)

// usesAddresses reports whether the addresses of clients are asked for. Else they are not looked for,
// and nobody gets them.
func usesAddresses(cfg *config.Config) bool {
	return len(cfg.TrustedProxies) > 0 || cfg.MaxConnectionsPerIP > 0 || cfg.ConnectsPerMinutePerIP > 0
}

// proxies returns which peers have to begin with a header of the PROXY protocol; nil: nobody.
func (s *Server) proxies() edge.Proxies {
	if !s.cfg.ProxyProtocol {
		return nil
	}
	return s.finder.Trusts
}

// newLimits returns the limits of an address, or nil if there are none.
func newLimits(cfg *config.Config) *address.Limits {
	if cfg.MaxConnectionsPerIP == 0 && cfg.ConnectsPerMinutePerIP == 0 {
		return nil
	}
	return address.NewLimits(cfg.MaxConnectionsPerIP, cfg.ConnectsPerMinutePerIP)
}

// clientAddr returns the address of the client of a request, or the zero Addr if nobody asks for it.
func (s *Server) clientAddr(r *http.Request) netip.Addr {
	if !usesAddresses(&s.cfg) {
		return netip.Addr{}
	}
	peer, values := callerAddr(r), r.Header[s.finder.Header]
	if len(values) > 0 && !s.finder.Trusts(peer) {
		s.untrusted.Do(func() {
			attrs := []slog.Attr{slog.String("header", s.finder.Header)}
			s.log.LogAttrs(r.Context(), slog.LevelWarn, "a peer that is not in TRUSTED_PROXIES sends the header of a proxy: if it is one, all its clients count as one; "+
				"add its address to TRUSTED_PROXIES, or ignore this if it is a client (LOG_LEVEL=debug shows the address; this is said once)", s.withAddr(r.Context(), attrs, peer)...)
		})
	}
	return s.finder.Client(peer, values)
}

// withAddr adds the address of a client to a log line, if lines of debug level are wanted: it is personal data.
func (s *Server) withAddr(ctx context.Context, attrs []slog.Attr, client netip.Addr) []slog.Attr {
	if client.IsValid() && s.log.Enabled(ctx, slog.LevelDebug) {
		return append(attrs, slog.String("client_ip", client.String()))
	}
	return attrs
}

// refuseAddress turns a client away if err says that its address has too many streams.
func (s *Server) refuseAddress(w http.ResponseWriter, r *http.Request, request []byte, err error) bool {
	e := (*address.TooManyError)(nil)
	if !errors.As(err, &e) {
		return false
	}
	s.limits.Refuse(e)
	s.full.LogContext(r.Context(), s.log, slog.LevelWarn, "a stream is turned away: there are too many from its address", s.withAddr(r.Context(), nil, gateway.ClientIP(request))...)
	if e.Wait > 0 { // an EventSource, too, has to wait for so long
		seconds := int64((e.Wait + time.Second - 1) / time.Second)
		w.Header().Set("Retry-After", strconv.FormatInt(seconds+rand.Int64N(5), 10)) //nolint:gosec // jitter, not a secret
		s.refuseStream(w, r, api.ErrTooManyFrom)
		return true
	}
	s.tooMany(w, r, api.ErrTooManyFrom)
	return true
}
