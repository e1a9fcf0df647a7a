package server

import (
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"ssegateway/internal/api"
)

const (
	// maxHead bounds the head of a request, in bytes as HTTP/2 counts them: the target, the
	// host, and for each field its name, its value and fieldOverhead (RFC 9113 section 10.5.1).
	maxHead       = 32 << 10
	fieldOverhead = 32
	// maxHeaderBytes is what net/http reads of a head (it adds 4 KiB over HTTP/1, 320 bytes
	// over HTTP/2). Between the two bounds a head is read, judged and dropped, and its stream
	// alone is refused. Beyond this one net/http refuses the request by itself, or ends the HTTP/2
	// connection. So a stranger can make us hold this much for each connection, while its head
	// is being read, and maxHead for each request from then on.
	maxHeaderBytes = 128 << 10
)

// noSniff has browsers take each answer for what its Content-Type says
// (https://fetch.spec.whatwg.org/#x-content-type-options-header).
var noSniff = []string{"nosniff"}

// admit checks each request first, at the public listener and at that of /internal.
func (s *Server) admit(next http.HandlerFunc, public bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["X-Content-Type-Options"] = noSniff
		absolute, ok := originForm(r)
		path := target(r)
		switch {
		case r.ProtoMajor == 1 && r.Proto == "HTTP/2.0": // the preface of HTTP/2, where it is not spoken
			s.refusePath(w, r, path, api.Malformed(http.StatusHTTPVersionNotSupported, ""))
		case isHeadTooLarge(r):
			dropHead(r)
			s.refusePath(w, r, path, api.ErrRequestTooLarge)
		case r.ProtoMajor == 2 && isMalformed2(r):
			s.refusePath(w, r, path, api.Malformed(http.StatusBadRequest, ""))
		case !isHost(r.Host):
			s.refusePath(w, r, path, api.Malformed(http.StatusBadRequest, "Bad Request: malformed Host header"))
		case !ok:
			s.refusePath(w, r, path, api.ErrTarget)
		case public && absolute && isInternal(path):
			// A proxy in front that denies /internal may have looked at the beginning of the target only.
			refuse(w, r, api.ErrForbidden)
		default:
			next(w, r)
		}
	})
}

// originForm turns a target in absolute form into its path and query, unchanged (RFC 9112
// section 3.2.2). net/http has taken the host from it already.
func originForm(r *http.Request) (absolute, ok bool) {
	scheme, rest, found := strings.Cut(r.RequestURI, "://")
	if r.ProtoMajor != 1 || !found || strings.ContainsAny(scheme, "/?#") {
		return false, true
	}
	if !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return false, false
	}
	authority := rest
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority = rest[:end]
	}
	path := rest[len(authority):]
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	// A target that net/http reads differently is refused, and so is user information, which it drops.
	if authority == "" || authority != r.Host {
		return false, false
	}
	r.RequestURI = path
	return true, true
}

// isHost reports whether a Host, or the authority of a target, is a name or an address, and perhaps a port (RFC 9110
// section 7.2), or empty. net/http looks at its characters only.
func isHost(host string) bool {
	name, port := host, ""
	if strings.HasPrefix(host, "[") {
		end := strings.IndexByte(host, ']')
		if end < 0 {
			return false
		}
		if addr, err := netip.ParseAddr(host[1:end]); err != nil || !addr.Is6() {
			return false
		}
		name, port = "", host[end+1:]
	} else if colon := strings.IndexByte(host, ':'); colon >= 0 {
		name, port = host[:colon], host[colon:]
	}
	if port != "" && (port[0] != ':' || strings.Trim(port[1:], "0123456789") != "") || strings.ContainsFunc(name, isNoHostChar) {
		return false
	}
	if !strings.Contains(name, "%") {
		return true
	}
	_, err := url.PathUnescape(name)
	return err == nil
}

// isNoHostChar reports whether a registered name cannot have this character (RFC 3986 section 3.2.2).
func isNoHostChar(c rune) bool {
	return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune("-._~!$&'()*+,;=%", c)
}

// isMalformed2 reports whether a request is malformed by RFC 9113 in a way that net/http lets through: a length that is
// not the body's (section 8.1.1), a Host that is not the authority, a method that is no token, or a blank in the path
// (8.3.1). Blanks around a value are let through, as clients send them: "Bearer " with an empty token.
func isMalformed2(r *http.Request) bool {
	if !httpguts.ValidHeaderFieldName(r.Method) { // a token, too
		return true
	}
	for _, host := range r.Header["Host"] {
		if host != r.Host {
			return true
		}
	}
	for _, length := range r.Header["Content-Length"] {
		if n, err := strconv.ParseInt(length, 10, 64); err != nil || n != r.ContentLength {
			return true
		}
	}
	return strings.Contains(r.RequestURI, " ")
}

func isHeadTooLarge(r *http.Request) bool {
	size := len(r.RequestURI) + len(r.Host)
	for name, values := range r.Header {
		for _, value := range values {
			size += len(name) + len(value) + fieldOverhead
		}
	}
	return size > maxHead
}

// dropHead drops the large parts of a head, but not its Origin. The answer may wait for a
// client that does not read.
func dropHead(r *http.Request) {
	origins := r.Header["Origin"]
	clear(r.Header)
	if len(origins) == 1 && len(origins[0]) < 1<<10 {
		r.Header["Origin"] = origins
	}
	r.RequestURI, r.Host, r.URL = "", "", &url.URL{}
}

// refusePath refuses a request for a path, with CORS fields where pages of other origins may see it.
func (s *Server) refusePath(w http.ResponseWriter, r *http.Request, path string, e *api.Error) {
	if isInternal(path) {
		refuse(w, r, e)
		return
	}
	s.withCORS(func(w http.ResponseWriter, r *http.Request) { refuse(w, r, e) }).ServeHTTP(w, r)
}
