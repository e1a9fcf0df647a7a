package server

import (
	"net/http"
	"net/url"

	"ssegateway/internal/api"
)

const (
	// maxHead bounds the head of a request, in bytes as HTTP/2 counts them: the target, the
	// host, and for each field its name, its value and fieldOverhead (RFC 9113 section 10.5.1).
	maxHead       = 32 << 10
	fieldOverhead = 32
	// maxHeaderBytes is what net/http reads of a head (it adds 4 KiB over HTTP/1, 320 bytes
	// over HTTP/2). Between the two bounds a head is read, judged and dropped, and its stream
	// alone is refused. Beyond this one net/http answers in its own words or ends the HTTP/2
	// connection. So a stranger can make us hold this much for each connection, while its head
	// is being read, and maxHead for each request from then on.
	maxHeaderBytes = 128 << 10
)

// admit is what all requests go through first, at every listener.
func (s *Server) admit(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isHeadTooLarge(r) {
			path := target(r)
			dropHead(r)
			s.refusePath(w, r, path, api.ErrRequestTooLarge)
			return
		}
		next(w, r)
	})
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

// dropHead forgets what is large of a head, but not which origin asks. The answer may wait
// for a client that does not read.
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
