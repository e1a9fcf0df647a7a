package server

import (
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/broker/nats"
)

// brokerGrace is how long the broker may be away before the gateway is not ready for it:
// streams go on meanwhile, and a restart of NATS is over by then.
const brokerGrace = 5 * time.Second

// openBroker makes the engine of the log that the settings ask for, and connects it. The
// broker may be away.
func (s *Server) openBroker() error {
	if s.cfg.NATSURL == "" {
		s.broker = broker.NewMemory(s.cfg.LogBytes, s.cfg.LogAge)
		return nil
	}
	conn, err := nats.Dial(nats.Config{
		URL: s.cfg.NATSURL, CredentialsFile: s.cfg.NATSCredentialsFile, CAFile: s.cfg.NATSCAFile, Log: s.log,
	})
	if err != nil {
		return err
	}
	s.nats = conn
	s.engine = nats.NewEngine(conn, nats.LogConfig{
		Prefix: s.cfg.NATSPrefix, MaxBytes: s.cfg.LogBytes, MaxAge: s.cfg.LogAge, Replicas: s.cfg.NATSReplicas,
	})
	s.broker = s.engine
	return nil
}

// closeBroker is for when nothing uses the broker any more.
func (s *Server) closeBroker() {
	if s.nats != nil {
		s.nats.Close()
	}
}

// isLogOpen says that the log has been opened. Before that nothing can be said of what was
// published.
func (s *Server) isLogOpen() bool { return s.engine == nil || s.engine.Ready() }

// isBrokerReachable is about the last few seconds.
func (s *Server) isBrokerReachable() bool { return s.engine == nil || s.engine.Away() < brokerGrace }
