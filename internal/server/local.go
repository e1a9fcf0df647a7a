package server

import (
	"net/http"
	"net/netip"
	"strings"

	"ssegateway/internal/api"
)

// checkLocal decides about a caller whose only permission is that it is on this host. A
// browser on this host runs pages of other sites. Such a page reaches us under its own
// name if that name resolves to a loopback address (DNS rebinding), and browsers then
// take us for a part of its site. So the request has to name us as only this host can be
// named, and what a browser says of the page behind a request must be this host too.
func checkLocal(r *http.Request) *api.Error {
	if !isLocalName(r.Host) {
		return api.ErrForbiddenHost
	}
	// https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header
	for _, site := range r.Header["Sec-Fetch-Site"] {
		if site != "none" && site != "same-origin" {
			return api.ErrForbidden
		}
	}
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	for _, origin := range r.Header["Origin"] {
		if !strings.EqualFold(origin, scheme+r.Host) {
			return api.ErrForbidden
		}
	}
	return nil
}

// isLocalName reports whether a Host field names an address, localhost, a name without a
// dot, or one below .localhost (RFC 6761 section 6.3): no site of the internet has such a name.
func isLocalName(host string) bool {
	name := host
	if strings.HasPrefix(host, "[") {
		end := strings.IndexByte(host, ']')
		if end < 0 || end+1 < len(host) && host[end+1] != ':' {
			return false
		}
		addr, err := netip.ParseAddr(host[1:end])
		return err == nil && addr.Is6()
	}
	if colon := strings.LastIndexByte(host, ':'); colon >= 0 {
		name = host[:colon]
	}
	if name == "" {
		return false
	}
	if !strings.Contains(name, ".") {
		return !strings.Contains(name, ":")
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		return addr.Is4()
	}
	const below = ".localhost"
	return len(name) > len(below) && strings.EqualFold(name[len(name)-len(below):], below)
}
