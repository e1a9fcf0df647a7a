package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"

	"ssegateway/internal/address"
	"ssegateway/internal/api"
	"ssegateway/internal/broker"
	"ssegateway/internal/callback"
	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
	"ssegateway/internal/relay"
)

// holder is a backend that does not ask about a connection that the backend has accepted by its answer to a relayed
// request.
type holder struct{ *callback.Client }

// Connect implements gateway.Backend.
func (h holder) Connect(ctx, client context.Context, token gateway.Token, request []byte) gateway.Answer {
	if a, ok := gateway.Held(client); ok {
		return a
	}
	return h.Client.Connect(ctx, client, token, request)
}

// newRelay makes the relay, if RELAY_URL is set.
func (s *Server) newRelay() error {
	if s.cfg.RelayURL == "" {
		return nil
	}
	u, err := url.Parse(s.cfg.RelayURL)
	if err != nil {
		return nameSetting("RELAY_URL", err) // cannot happen: a Config is valid
	}
	authorities, certificate, err := s.backendTLS()
	if err != nil {
		return err
	}
	s.forwarder = callback.NewForwarder(callback.ForwarderConfig{
		URL: u, Timeout: s.cfg.RelayTimeout, MaxIdle: s.files.concurrency, Authorities: authorities, Certificate: certificate,
	})
	s.relayCORS = newCORS(s.cfg.CORSAllowedOrigins, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions)
	s.relay = relay.New(relay.Config{
		Forwarder: s.forwarder, Paths: s.cfg.RelayPaths, Gateway: s.gw, Streams: s.streams, MaxBody: s.cfg.MaxBodyBytes,
		Resume: s.cfg.RelayResume, AnswerBytes: s.cfg.RelayAnswerBytes, BudgetBytes: s.cfg.RelayBudgetBytes,
		MaxBodies:   max(min(s.cfg.MaxConnections, s.files.streams/2)/2, 1), // of the descriptors and of the connections half, at most
		LastEventID: lastEventID, SameAddress: address.Same,
		Position: func(ctx context.Context) broker.Position { return s.topics.Position(ctx) },
		Trusts:   s.finder.Trusts, Peer: callerAddr,
		Encode: func(r *http.Request) ([]byte, bool) { return callback.EncodeRequest(r, s.clientAddr(r)) },
		Refuse: func(w http.ResponseWriter, r *http.Request, e *api.Error) {
			s.relayCORS(func(w http.ResponseWriter, r *http.Request) { s.refuseStream(w, r, e) }).ServeHTTP(w, r)
		},
		Reject: s.rejectRelayed, Hold: s.hold, Ask: s.askAnswer(), Log: s.log,
	})
	return nil
}

// askAnswer returns what asks other nodes for relayed answers; nil: there are none.
func (s *Server) askAnswer() func(context.Context, connections.AnswerQuestion) (connections.AnswerReply, error) {
	if s.node == nil {
		return nil
	}
	return func(ctx context.Context, q connections.AnswerQuestion) (connections.AnswerReply, error) {
		return s.router.AskAnswer(ctx, q)
	}
}

// backendTLS returns what BACKEND_CA_FILE and BACKEND_CLIENT_CERT_FILE name; each is nil without its setting.
func (s *Server) backendTLS() (authorities func() *x509.CertPool, certificate func() *tls.Certificate, err error) {
	if s.cfg.BackendCAFile != "" {
		known, err := newAuthorities(backendAuthorities, s.cfg.BackendCAFile, s.log)
		if err != nil {
			return nil, nil, err
		}
		s.follows(known)
		authorities = known.get
	}
	if s.cfg.BackendClientCertFile != "" {
		own, err := newCertificate(backendPair, s.cfg.BackendClientCertFile, s.cfg.BackendClientKeyFile, s.log)
		if err != nil {
			return nil, nil, err
		}
		s.follows(own)
		certificate = own.get
	}
	return authorities, certificate, nil
}

// sockets returns how many descriptors streams have, those of the application for relayed requests included.
func (s *Server) sockets() int {
	n := s.streams.Sockets()
	if s.relay != nil {
		n += s.relay.Backends()
	}
	return n
}

// endRelay ends what relayed requests have to do with the application.
func (s *Server) endRelay() {
	if s.relay != nil {
		s.relay.Wait()
		s.forwarder.Close()
	}
}

// relays reports whether a request for this path is relayed.
func (s *Server) relays(path string) bool { return s.relay != nil && s.relay.Covers(path) }

// serveRelayed relays a request.
func (s *Server) serveRelayed(w http.ResponseWriter, r *http.Request) {
	switch {
	case s.gw.Draining() || !s.isLogOpen() || s.node != nil && s.node.Refuses():
		s.relayCORS(s.laterRelayed).ServeHTTP(w, r)
	case !s.hasSockets(r, 1, relay.Incomplete(r)):
		s.relayCORS(s.refuseRelayed).ServeHTTP(w, r)
	default:
		s.relay.ServeHTTP(w, r)
	}
}

// laterRelayed asks a client to come back: by a stream if it is an EventSource, else by a status.
func (s *Server) laterRelayed(w http.ResponseWriter, r *http.Request) {
	s.turnedAway.notReady.Add(1)
	if isEventSource(r) {
		comeBack(w, r)
		return
	}
	w.Header().Set("Retry-After", strconv.Itoa(1+rand.IntN(5))) //nolint:gosec // jitter, not a secret
	refuse(w, r, api.ErrNotReady)
}

// rejectRelayed answers a relayed request for which there is no room.
func (s *Server) rejectRelayed(w http.ResponseWriter, r *http.Request, request []byte, err error) {
	s.relayCORS(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case errors.Is(err, gateway.ErrDraining), errors.Is(err, gateway.ErrNameless):
			s.laterRelayed(w, r)
		case errors.Is(err, gateway.ErrRequests):
			s.tooMany(w, r, api.ErrRequestBudget)
		case s.refuseAddress(w, r, request, err):
		default:
			s.refuseRelayed(w, r)
		}
	}).ServeHTTP(w, r)
}

// refuseRelayed turns a relayed request away because there is no room. Of one whose body has not come nothing is said:
// many such are an attack.
func (s *Server) refuseRelayed(w http.ResponseWriter, r *http.Request) {
	if relay.Incomplete(r) {
		s.turnedAway.full.Add(1)
		s.tooMany(w, r, api.ErrTooManyConns)
		return
	}
	s.refuseFull(w, r)
}

// hold opens the stream that the answer to a relayed request asks for.
func (s *Server) hold(w http.ResponseWriter, r *http.Request, c *gateway.Conn, answer gateway.Answer) {
	client := clientOf(r)
	ok, err := c.Hold(client, answer)
	if err != nil {
		s.rejectRelayed(w, r, nil, err)
		return
	}
	s.relayCORS(func(w http.ResponseWriter, r *http.Request) {
		defer func() { // as in serveStream
			if v := recover(); v != nil {
				c.Abort(gateway.Error, gateway.OpenFailed)
				panic(v)
			}
		}()
		if client.Err() != nil {
			c.Abort(gateway.ClientClosed, 0)
		}
		if !ok || c.State() != gateway.Pending {
			s.laterRelayed(w, r)
			return
		}
		for _, f := range answer.Header {
			w.Header()[f.Name] = append(w.Header()[f.Name], f.Value)
		}
		s.open(w, r, c, s.grant(r, c, answer), s.laterRelayed)
	}).ServeHTTP(w, r)
}
