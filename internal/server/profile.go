package server

import (
	"net/http"
	"net/http/pprof" // registers itself on http.DefaultServeMux as well, which nothing here serves
	"strings"

	"ssegateway/internal/api"
)

// profilePath begins the paths of profiles.
const profilePath = "/internal/debug/pprof/"

// serveProfile serves Go's profiles. A profile may take as long as its caller asks for: the edge
// bounds only how long a caller takes nothing of an answer. The command line is not served, since
// flags can hold secrets.
func serveProfile(w http.ResponseWriter, r *http.Request) {
	if !api.Allow(w, r, http.MethodGet) {
		return
	}
	switch name := strings.TrimPrefix(target(r), profilePath); name {
	case "":
		pprof.Index(w, r)
	case "profile":
		pprof.Profile(w, r)
	case "trace":
		pprof.Trace(w, r)
	default:
		pprof.Handler(name).ServeHTTP(w, r) // 404 for a name that is none
	}
}
