package server

import (
	"net"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/broker/nats"
)

// brokerGrace is how long the broker may be away before the gateway is not ready for it:
// streams go on meanwhile, and a restart of NATS is over by then.
const brokerGrace = 5 * time.Second

// embeddedServer is a NATS in this process.
type embeddedServer interface {
	InProcessConn() (net.Conn, error)
	Shutdown()
}

// openBroker makes the engine of the log that the settings ask for, and connects it. The
// broker may be away.
func (s *Server) openBroker() (err error) {
	cfg := nats.Config{URL: s.cfg.NATSURL, CredentialsFile: s.cfg.NATSCredentialsFile, CAFile: s.cfg.NATSCAFile, Log: s.log}
	switch {
	case s.cfg.NATSEmbedded:
		if s.embedded, err = startEmbedded(s.cfg.NATSStoreDir, s.cfg.MaxBodyBytes, s.log); err != nil {
			return err
		}
		cfg = nats.Config{InProcess: s.embedded, Log: s.log}
	case s.cfg.NATSURL == "":
		s.broker = broker.NewMemory(s.cfg.LogBytes, s.cfg.LogAge)
		return nil
	}
	if s.nats, err = nats.Dial(cfg); err != nil {
		s.closeBroker()
		return err
	}
	s.engine = nats.NewEngine(s.nats, nats.LogConfig{
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
	if s.embedded != nil {
		s.embedded.Shutdown()
	}
}

// isLogOpen says that the log has been opened. Before that nothing can be said of what was
// published.
func (s *Server) isLogOpen() bool { return s.engine == nil || s.engine.Ready() }

// isBrokerReachable is about the last few seconds.
func (s *Server) isBrokerReachable() bool { return s.engine == nil || s.engine.Away() < brokerGrace }
