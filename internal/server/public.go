package server

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"ssegateway/internal/api"
	"ssegateway/internal/broker"
	"ssegateway/internal/callback"
	"ssegateway/internal/edge"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
	"ssegateway/internal/logging"
	"ssegateway/internal/relay"
	"ssegateway/internal/stream"
	"ssegateway/sse"
)

// callbackTimeout bounds an attempt of a disconnect callback. Leases and drains count on it.
const callbackTimeout = 5 * time.Second

// target returns the path of the raw request target, which is never cleaned.
func target(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	return path
}

func isInternal(path string) bool {
	return strings.HasPrefix(path, "/internal/") || path == "/metrics"
}

// servePublic routes the requests at the public port.
func (s *Server) servePublic(w http.ResponseWriter, r *http.Request) {
	path := target(r)
	relays := s.relays(path)
	switch {
	case healthPath(path) != "":
		s.serveHealth(w, r)
	case isInternal(path) || relays && path == "/internal":
		if problem := s.mayCall(r); problem != nil {
			refuse(w, r, problem)
			return
		}
		s.serveInternal(w, r)
	case relays:
		s.serveRelayed(w, r)
	default:
		s.clients.ServeHTTP(w, r)
	}
}

// isStreamTarget reports whether a GET of a target is for a stream, as servePublic routes it.
func (s *Server) isStreamTarget(target string) bool {
	path, _, _ := strings.Cut(target, "?")
	return healthPath(path) == "" && !isInternal(path) && !s.relays(path)
}

// serveStream turns a client's GET into a connection.
func (s *Server) serveStream(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		closeBehind(w, r)
		api.Allow(w, r, http.MethodGet)
		return
	}
	// Stricter than net/http: what a proxy in front could read otherwise than we do is refused.
	if !strings.HasPrefix(r.RequestURI, "/") {
		s.refuseStream(w, r, api.ErrTarget)
		return
	}
	if hasBody(r) {
		s.refuseStream(w, r, api.ErrBody)
		return
	}
	if s.callbacks == nil {
		s.refuseStream(w, r, api.ErrNotConfigured)
		return
	}
	if s.gw.Draining() || !s.isLogOpen() || s.node != nil && s.node.Refuses() {
		s.turnedAway.notReady.Add(1)
		comeBack(w, r)
		return
	}
	if !s.hasSockets(r, 0, false) {
		s.refuseFull(w, r)
		return
	}
	request, ok := callback.EncodeRequest(r, s.clientAddr(r))
	if !ok {
		s.refuseStream(w, r, api.ErrRequestTooLarge)
		return
	}
	c, answer, err := s.gw.Connect(clientOf(r), request)
	for gateway.IsFull(err) && s.relay != nil && s.relay.MakeRoom(r.Context(), false) {
		c, answer, err = s.gw.Connect(clientOf(r), request)
	}
	if err != nil {
		if s.gw.Draining() || errors.Is(err, gateway.ErrNameless) {
			s.turnedAway.notReady.Add(1)
			comeBack(w, r)
			return
		}
		if errors.Is(err, gateway.ErrRequests) {
			s.tooMany(w, r, api.ErrRequestBudget)
			return
		}
		if s.refuseAddress(w, r, request, err) {
			return
		}
		s.refuseFull(w, r)
		return
	}
	defer func() { // also after a panic no connection stays
		if v := recover(); v != nil {
			c.Abort(gateway.Error, gateway.OpenFailed)
			panic(v)
		}
	}()
	for _, f := range answer.Header {
		w.Header()[f.Name] = append(w.Header()[f.Name], f.Value)
	}
	switch answer.Outcome {
	case gateway.Accepted:
		if c.State() == gateway.Pending {
			s.open(w, r, c, s.grant(r, c, answer), comeBack)
			return
		}
		comeBack(w, r) // closed meanwhile: the gateway drains, or the client has left
	case gateway.Refused:
		s.refuseStream(w, r, api.BackendError(answer.Status))
	case gateway.TimedOut:
		if s.gw.Draining() {
			comeBack(w, r)
			return
		}
		s.refuseStream(w, r, api.ErrBackendTimeout)
	case gateway.Unreachable, gateway.Unanswered:
		s.refuseStream(w, r, api.ErrBackendDown)
	case gateway.Unasked:
		comeBack(w, r)
	}
}

// open opens an accepted connection, or has it told to come back later, if its topics cannot be followed now.
func (s *Server) open(w http.ResponseWriter, r *http.Request, c *gateway.Conn, g gateway.Grant, later http.HandlerFunc) {
	ctx := context.WithoutCancel(r.Context()) // whether the client has left is known when the stream opens
	release, err := s.topics.Follow(ctx, g.Topics, cmp.Or(g.LastEventID, g.Position))
	if err != nil {
		c.Abort(gateway.Error, gateway.OpenFailed)
		later(w, r)
		return
	}
	defer release()
	s.streams.Open(w, r, c, g)
}

// streamClient is the context of a request for a stream. It ends when the client goes away, or sends
// more than its request.
type streamClient struct {
	context.Context
	conn *edge.Conn
}

// firstClient is the context of a request that a Front has read, with what handlers have added to it.
type firstClient struct {
	context.Context
	gateway.Leaver
}

func clientOf(r *http.Request) context.Context {
	if client := stream.ClientOf(r.Context()); client != nil {
		return firstClient{r.Context(), client}
	}
	conn := edge.From(r.Context())
	if conn == nil || r.ProtoMajor > 1 {
		return r.Context()
	}
	ctx := r.Context()
	if conn.Final() != nil {
		left, leave := context.WithCancel(ctx)
		leave()
		ctx = left
	}
	return streamClient{ctx, conn}
}

// AfterFunc implements [gateway.Leaver].
func (c streamClient) AfterFunc(f func()) (stop func() bool) {
	return context.AfterFunc(c.Context, func() {
		defer guard.Recover()
		f()
	})
}

// Left implements [gateway.Leaver].
func (c streamClient) Left() (gateway.Reason, gateway.Detail) {
	if errors.Is(c.conn.Err(), edge.ErrUnexpected) {
		return gateway.Error, gateway.UnexpectedData
	}
	return gateway.ClientClosed, 0
}

// hasSockets reports whether there are descriptors for a request that asks for a stream: its own, if it does not share
// one, and that many others. MAX_CONNECTIONS may be larger than that, since HTTP/2 streams share sockets, and a relayed
// request has two. Relayed answers that nobody reads make room first, then relayed requests whose bodies do
// not come, as in [relay.Relay.MakeRoom].
func (s *Server) hasSockets(r *http.Request, others int, incomplete bool) bool {
	if r.ProtoMajor == 1 {
		others++
	}
	for others > 0 && (s.relay != nil || s.cfg.MaxConnections > s.files.streams) {
		if int(s.gw.Stats().Pending.Load())+s.sockets()+others <= s.files.streams+s.gw.Tails() {
			return true
		}
		if s.relay == nil || !s.relay.Spare(netip.Addr{}) && !s.relay.MakeRoom(r.Context(), incomplete) {
			return false
		}
	}
	return true
}

// refuseFull turns a client away because there are as many streams as there may be.
func (s *Server) refuseFull(w http.ResponseWriter, r *http.Request) {
	s.turnedAway.full.Add(1)
	s.full.LogContext(r.Context(), s.log, slog.LevelWarn, "a stream is turned away: there are MAX_CONNECTIONS", slog.Int("max_connections", s.cfg.MaxConnections))
	s.tooMany(w, r, api.ErrTooManyConns)
}

// tooMany turns a client away for now.
func (s *Server) tooMany(w http.ResponseWriter, r *http.Request, e *api.Error) {
	if !s.isRetrySet(r) {
		w.Header().Set("Retry-After", strconv.Itoa(1+rand.IntN(5))) //nolint:gosec // jitter, not a secret
	}
	s.refuseStream(w, r, e)
}

// bodyTimeout bounds how long a body of unknown length may take to turn out to be empty.
const bodyTimeout = time.Second

// hasBody reports whether a request has a body. A body of unknown length counts as none if only
// its end comes: some proxies frame each GET like that.
func hasBody(r *http.Request) bool {
	if r.ContentLength >= 0 {
		return r.ContentLength > 0
	}
	edge.Hurry(r, bodyTimeout)
	n, err := io.ReadFull(r.Body, make([]byte, 1))
	return n > 0 || !errors.Is(err, io.EOF)
}

// grant decodes the backend's answer that accepted a connection.
func (s *Server) grant(r *http.Request, c *gateway.Conn, answer gateway.Answer) gateway.Grant {
	g, err := api.DecodeGrant(answer.Body, s.gw.MaxTopics())
	if slices.ContainsFunc(g.Events, func(e sse.Event) bool { return e.ID.IsSet() && s.topics.IsAhead(r.Context(), e.ID.String()) }) {
		g, err = gateway.Grant{}, errors.New("events has an id that is a position to which the log has not come")
	}
	if err != nil {
		s.ignored.LogContext(r.Context(), s.log, slog.LevelWarn, "the answer to the connect callback is ignored",
			slog.String("token", c.Token().String()), slog.String("error", logging.Cut(err.Error())))
	}
	if len(g.Topics) > 0 && leavePositionsOut(g.Events) {
		s.ignored.LogContext(r.Context(), s.log, slog.LevelWarn, "an id in events of the answer to the connect callback is left out: it is a position, from which the client would come back without what stands behind events",
			slog.String("token", c.Token().String()))
	}
	if s.isRetrySet(r) && !g.Retry.IsSet() {
		g.Retry = sse.RetryMillis(defaultRetry)
	}
	g.LastEventID = lastEventID(r)
	if g.Position == "now" {
		g.Position = ""
	} else {
		g.Asked = answer.Asked
	}
	return g
}

// leavePositionsOut takes the ids off the events that are positions. It reports whether there were any.
func leavePositionsOut(events []sse.Event) (some bool) {
	for i := range events {
		if broker.IsPosition(events[i].ID.String()) {
			events[i].ID, some = sse.ID{}, true
		}
	}
	return some
}

// lastEventID returns the first Last-Event-ID that is not empty. An EventSource sends one, but a
// proxy or another client may add more. Without one it returns the first position, or id of a relayed
// answer, that the query has in its place, since a page cannot make a new EventSource send the header.
func lastEventID(r *http.Request) string {
	for _, id := range r.Header.Values("Last-Event-ID") {
		if id != "" {
			return callback.Text(id)
		}
	}
	_, query, _ := strings.Cut(r.RequestURI, "?")
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		switch name {
		case "lastEventId", "lastEventID", "last-event-id":
			if id, err := url.QueryUnescape(value); err == nil && (broker.IsPosition(id) || relay.IsID(id)) {
				return id
			}
		}
	}
	return ""
}

// refuse answers a stranger with an error.
func refuse(w http.ResponseWriter, r *http.Request, e *api.Error) {
	closeBehind(w, r)
	e.Write(w)
}

// closeBehind closes an HTTP/1 connection after the answer to a stranger, so that nothing more
// has to be read from it. An HTTP/2 connection stays: other streams share it, and net/http
// would turn the field, which HTTP/2 does not have, into a GOAWAY.
func closeBehind(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
}
