package server

import (
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

// Serve implements [fastsend.Handler]. Whether the caller may call was decided for its
// connection, but for what it says anew with each request.
func (s *sender) Serve(authorization, body []byte) (status int, answer []byte, later func() (int, []byte)) {
	if s.server.cfg.InternalToken != "" && !s.server.isToken(string(authorization)) || int64(len(body)) > s.server.cfg.MaxBodyBytes {
		return 0, nil, nil
	}
	return s.Send(body)
}

// sending is what is known of a connection as a sender's.
type sending struct {
	exit  *fastsend.Exit
	again bool // it has sent before
}

type sendingKey struct{}

// senderContext has a new connection of a server remembered as a sender's that may become;
// one that comes from the exit stays.
func senderContext(ctx context.Context, nc net.Conn, exit *fastsend.Exit) context.Context {
	c := edge.Of(nc)
	if c == nil || fastsend.Returned(c.NetConn()) {
		return ctx
	}
	return context.WithValue(ctx, sendingKey{}, &sending{exit: exit})
}

// keepSender carries out a send, and takes its connection over for those that follow.
// It answers false where the request, or its connection, is not for that.
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
		return false // the API finds the same
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return false
	}
	defer func() { // net/http does not close it any more
		if v := recover(); v != nil {
			_ = conn.Close()
			panic(v)
		}
	}()
	unread, _ := buffered.Reader.Peek(buffered.Reader.Buffered())
	status, answer, later := s.newSender().Serve([]byte(r.Header.Get("Authorization")), body)
	if later != nil {
		status, answer = later()
	}
	s.senders.Take(edge.HandOver(conn), unread, known.exit, r.Host, status, answer)
	return true
}
