package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"

	"ssegateway/internal/config"
	"ssegateway/internal/edge"
	"ssegateway/internal/fastsend"
	"ssegateway/internal/stream"
)

type listening struct {
	listener net.Listener
	exit     *fastsend.Exit // of the senders that came in here
	server   *http.Server
}

func newListening(l net.Listener, server *http.Server) listening {
	exit := fastsend.NewExit(l.Addr())
	http2 := server.Protocols.HTTP2() || server.Protocols.UnencryptedHTTP2()
	server.ConnContext = func(ctx context.Context, nc net.Conn) context.Context {
		if http2 {
			ctx = stream.WithTransport(ctx, nc)
		}
		return senderContext(edge.Context(ctx, nc), nc, exit)
	}
	return listening{l, exit, server}
}

// listen opens the public listener, and the internal one if it is separate.
func (s *Server) listen(ctx context.Context) ([]listening, error) {
	l, err := listenPublic(ctx, s.cfg.Port)
	if err != nil {
		return nil, err
	}
	handler := s.catchPanics(s.admit(s.servePublic, true))
	public := s.httpServer(handler)
	public.Protocols.SetUnencryptedHTTP2(s.cfg.H2C)
	if s.cfg.TLSCertFile != "" {
		certificate, err := newCertificate(publicPair, s.cfg.TLSCertFile, s.cfg.TLSKeyFile, s.log)
		if err != nil {
			_ = l.Close()
			return nil, err
		}
		s.follows(certificate)
		s.certificate.Store(certificate)
		public.Protocols.SetHTTP2(true)
		l = s.edge.ListenProxied(l, s.proxies(), &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: served(certificate), NextProtos: []string{"h2", "http/1.1"}}, s.refusal(true))
	} else if proxies := s.proxies(); proxies != nil {
		l = s.edge.ListenProxied(l, proxies, nil, s.refusal(true))
	} else {
		l = s.edge.Listen(s.streams.Front(l, stream.FrontConfig{
			Edge: s.edge, Refusal: s.refusal(true), Handles: s.isStreamTarget, Handler: handler,
		}), edge.Plain, s.refusal(true))
	}
	listeners := []listening{newListening(l, public)}
	if s.cfg.InternalAddr != (config.Addr{}) {
		internal, err := s.listenInternal(ctx)
		if err != nil {
			_ = listeners[0].listener.Close()
			return nil, err
		}
		listeners = append(listeners, internal)
	}
	return listeners, nil
}

// listenInternal opens the listener of INTERNAL_ADDR.
func (s *Server) listenInternal(ctx context.Context) (listening, error) {
	server := s.httpServer(s.catchPanics(s.admit(s.serveInternalListener, false)))
	var config *tls.Config // nil: without TLS
	if s.cfg.InternalTLSCertFile != "" {
		var err error
		if config, err = s.internalTLS(); err != nil {
			return listening{}, err
		}
		server.Protocols.SetHTTP2(true)
	}
	var l net.Listener
	var err error
	if addr := s.cfg.InternalAddr; addr.Network == "unix" {
		l, err = listenUnix(ctx, addr.Address, s.cfg.InternalSocketMode)
	} else {
		l, err = new(net.ListenConfig).Listen(ctx, addr.Network, addr.Address) // without a stream's socket options
		err = nameSetting("INTERNAL_ADDR", err)
	}
	if err != nil {
		return listening{}, err
	}
	if config != nil {
		return newListening(s.edge.ListenTLS(l, config, s.refusal(false)), server), nil
	}
	return newListening(s.edge.Listen(l, edge.Plain, s.refusal(false)), server), nil
}

// listenPublic returns the listener of PORT: the socket that systemd passes, or a new one.
func listenPublic(ctx context.Context, port int) (net.Listener, error) {
	passed, err := passedSocket(port)
	if err != nil {
		return nil, err
	}
	if passed != nil {
		l, err := stream.Adopt(passed)
		if err != nil {
			return nil, fmt.Errorf("the socket that systemd passes does not take the options of a stream: %w", err)
		}
		return l, nil
	}
	lc := stream.ListenConfig()
	l, err := lc.Listen(ctx, "tcp", ":"+strconv.Itoa(port))
	return l, nameSetting("PORT", err)
}

// nameSetting names the setting that an error is about; nil stays nil.
func nameSetting(env string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", env, err)
}

func (s *Server) httpServer(h http.Handler) *http.Server {
	server := &http.Server{
		Handler:           edge.Handler(h),
		ConnState:         edge.Track,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          log.New(newServerLog(s.log), "", 0),
		Protocols:         new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: s.cfg.HTTP2MaxStreams,
			// The part of a body that no handler reads is held in memory: up to this much for each connection.
			MaxReceiveBufferPerConnection: 128 << 10,
			MaxReceiveBufferPerStream:     64 << 10,
		},
	}
	server.Protocols.SetHTTP1(true)
	server.DisableGeneralOptionsHandler = true // it answers OPTIONS * in net/http's own words
	return server
}
