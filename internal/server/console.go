package server

import (
	"net/http"
	"strings"

	"ssegateway/internal/api"
	"ssegateway/internal/console"
)

// consolePath is where the console is.
const consolePath = "/internal/console/"

// isConsole reports whether a request is for a file of the console. These files hold no data: what the page
// shows it asks of the API, by requests of their own.
func (s *Server) isConsole(r *http.Request) bool {
	path := target(r)
	return s.cfg.Console && (r.Method == http.MethodGet || r.Method == http.MethodHead) && (strings.HasPrefix(path, consolePath) || path+"/" == consolePath)
}

// mayLoadConsole decides where a token is asked for. A browser cannot send one with the address of a page, and the page
// is where it is typed in. So the files need none, but a list of callers holds for them.
func (s *Server) mayLoadConsole(r *http.Request) *api.Error {
	caller := callerAddr(r)
	if len(s.cfg.InternalAllow) > 0 && s.cfg.InternalAddr.Network != "unix" && !s.isListed(caller) && !caller.IsLoopback() {
		return api.ErrForbidden
	}
	return nil
}

func serveConsole(w http.ResponseWriter, r *http.Request) {
	path := target(r)
	if path+"/" == consolePath {
		w.Header().Set("Location", "console/")
		w.WriteHeader(http.StatusPermanentRedirect)
		return
	}
	name, ok := strings.CutPrefix(path, consolePath)
	if !ok || !console.Serve(w, r, name) {
		api.ErrUnknownOp.Write(w)
	}
}
