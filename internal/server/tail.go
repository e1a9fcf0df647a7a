package server

import (
	"errors"
	"net/http"
	"time"

	"ssegateway/internal/api"
	"ssegateway/internal/edge"
	"ssegateway/internal/gateway"
	"ssegateway/internal/stream"
	"ssegateway/internal/topics"
)

// follow is an [api.Follow].
func (s *Server) follow(w http.ResponseWriter, r *http.Request, names []string) *api.Error {
	return s.openTail(w, r, func(*gateway.Conn) gateway.Grant {
		// With a position it begins now, without what its topics retain.
		begin := topics.Beginning{LastEventID: lastEventID(r), Position: s.topics.Position(r.Context()).String()}
		return gateway.Grant{Topics: names, Beginning: begin}
	})
}

// followHistory is the Follow of an [api.Past].
func (s *Server) followHistory(w http.ResponseWriter, r *http.Request, d time.Duration) *api.Error {
	return s.openTail(w, r, func(c *gateway.Conn) gateway.Grant {
		s.history.Follow(c, d)
		return gateway.Grant{}
	})
}

// openTail answers a request with a tail. begin is called when there is one.
func (s *Server) openTail(w http.ResponseWriter, r *http.Request, begin func(*gateway.Conn) gateway.Grant) *api.Error {
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
	g := begin(c)
	release, err := s.topics.Follow(r.Context(), g.Topics, g.LastEventID)
	if err != nil {
		c.Abort(gateway.Error, gateway.OpenFailed)
		return api.ErrBroker
	}
	defer release()
	edge.Endless(w)
	s.streams.Open(w, r, c, g)
	return nil
}
