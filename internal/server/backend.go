package server

import (
	"context"

	"ssegateway/internal/broker"
	"ssegateway/internal/callback"
	"ssegateway/internal/config"
	"ssegateway/internal/gateway"
)

// callbackConfig says how the backend is called.
func (s *Server) callbackConfig(requests *gateway.Requests) (callback.Config, error) {
	u, socket, err := config.Backend(s.cfg.CallbackURL)
	if err != nil {
		return callback.Config{}, nameSetting("CALLBACK_URL", err) // cannot happen: a Config is valid
	}
	address := s.cfg.CallbackURL // exactly as given
	if socket != "" {
		address = u.String()
	}
	c := callback.Config{
		URL: address, Socket: socket, SigningSecrets: s.cfg.CallbackSigningSecrets, Token: s.cfg.CallbackToken,
		Timeout: callbackTimeout, ConnectTimeout: s.cfg.CallbackTimeout, Concurrency: s.cfg.CallbackConcurrency, Batch: s.cfg.CallbackBatch,
		Log: s.log, Observe: s.metrics.ObserveCallback, Requests: requests,
		Trace:    traceCallbacks(s.tracer, address),
		Position: func(ctx context.Context) broker.Position { return s.topics.Position(ctx) },
	}
	c.Authorities, c.Certificate, err = s.backendTLS()
	return c, err
}
