package server

import (
	"errors"
	"net/http"

	"ssegateway/internal/api"
	"ssegateway/internal/edge"
	"ssegateway/internal/gateway"
	"ssegateway/internal/stream"
	"ssegateway/internal/topics"
)

// follow is an [api.Follow].
func (s *Server) follow(w http.ResponseWriter, r *http.Request, names []string) *api.Error {
	if hasBody(r) {
		return api.ErrBody
	}
	if r.Method == http.MethodHead {
		stream.SetHeader(w.Header())
		return nil
	}
	c, err := s.gw.Tail()
	if errors.Is(err, gateway.ErrDraining) {
		comeBack(w, r)
		return nil
	}
	if err != nil {
		return api.ErrTooManyTails
	}
	defer func() { // as in serveStream
		if v := recover(); v != nil {
			c.Abort(gateway.Error, gateway.OpenFailed)
			panic(v)
		}
	}()
	edge.Endless(w)
	// With a position it begins now, without what its topics retain.
	begin := topics.Beginning{LastEventID: lastEventID(r), Position: s.topics.Position().String()}
	s.streams.Open(w, r, c, gateway.Grant{Topics: names, Beginning: begin})
	return nil
}
