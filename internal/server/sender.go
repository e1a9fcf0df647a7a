package server

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"

	"ssegateway/internal/api"
	"ssegateway/internal/edge"
	"ssegateway/internal/fastsend"
)

// sender carries out the sends of a [fastsend.Server].
type sender struct {
	server *Server
	*api.Sender
}

func (s *Server) newSender() fastsend.Handler { return &sender{s, s.api.NewSender()} }

// Serve implements [fastsend.Handler]. Access was decided for the connection; only what each
// request says anew is checked here.
func (s *sender) Serve(r fastsend.Request) (status int, answer []byte, later func() (int, []byte)) {
	if s.server.cfg.InternalToken != "" && !s.server.isToken(string(r.Authorization)) || int64(len(r.Body)) > s.server.cfg.MaxBodyBytes {
		return 0, nil, nil
	}
	if s.server.tracer == nil {
		return s.Send(context.Background(), r.Body)
	}
	ctx, done := s.server.tracer.Send(r.Traceparent, r.Tracestate)
	status, answer, waiting := s.Send(ctx, r.Body)
	if waiting == nil {
		done(status)
		return status, answer, nil
	}
	return 0, nil, func() (status int, answer []byte) {
		status, answer = waiting()
		done(status)
		return status, answer
	}
}

// sending is the state of a connection that may be a sender's.
type sending struct {
	exit  *fastsend.Exit
	again bool // it has sent before
}

type sendingKey struct{}

// senderContext adds a sending to the context of a new connection, so that it may be taken over.
// A connection that has returned from there gets none, and stays with net/http.
func senderContext(ctx context.Context, nc net.Conn, exit *fastsend.Exit) context.Context {
	c := edge.Of(nc)
	if c == nil || fastsend.Returned(c.NetConn()) {
		return ctx
	}
	return context.WithValue(ctx, sendingKey{}, &sending{exit: exit})
}

// keepSender carries out a send, and takes its connection over for the following ones.
// It returns false if the request or its connection does not qualify.
func (s *Server) keepSender(w http.ResponseWriter, r *http.Request) bool {
	if !fastsend.Suits(r) || r.ContentLength > s.cfg.MaxBodyBytes {
		return false
	}
	known, _ := r.Context().Value(sendingKey{}).(*sending)
	if known == nil || !known.again {
		if known != nil {
			known.again = true
		}
		return false
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, r.ContentLength))
	if err != nil {
		return false // the API reports the same error
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return false
	}
	defer func() { // net/http no longer closes the connection
		if v := recover(); v != nil {
			_ = conn.Close()
			panic(v)
		}
	}()
	unread, _ := buffered.Reader.Peek(buffered.Reader.Buffered())
	status, answer, later := s.newSender().Serve(fastsend.Request{
		Body: body, Authorization: []byte(r.Header.Get("Authorization")),
		Traceparent: []byte(r.Header.Get("Traceparent")), Tracestate: []byte(r.Header.Get("Tracestate")),
	})
	if later != nil {
		status, answer = later()
	}
	beneath, early := edge.HandOver(conn)
	s.senders.Take(beneath, append(bytes.Clone(unread), early...), known.exit, r.Host, status, answer)
	return true
}
