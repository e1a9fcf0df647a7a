package server

import (
	"net"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/broker/nats"
)

// brokerGrace is how long the broker may be down before the gateway reports that it is not
// ready. Streams go on meanwhile, and a restart of NATS takes less than that.
const brokerGrace = 5 * time.Second

// embeddedServer is a NATS in this process.
type embeddedServer interface {
	InProcessConn() (net.Conn, error)
	Shutdown()
}

// openBroker makes and connects the engine of the log that the settings ask for. It succeeds
// also while the broker is down.
func (s *Server) openBroker() (err error) {
	cfg := nats.Config{URL: s.cfg.NATSURL, CredentialsFile: s.cfg.NATSCredentialsFile, CAFile: s.cfg.NATSCAFile, Log: s.log}
	switch {
	case s.cfg.NATSEmbedded:
		if s.embedded, err = startEmbedded(s.cfg.NATSStoreDir, s.cfg.MaxBodyBytes, s.log); err != nil {
			return err
		}
		cfg = nats.Config{InProcess: s.embedded, Log: s.log}
	case s.cfg.NATSURL == "":
		memory := broker.NewMemory(s.cfg.LogBytes, s.cfg.LogAge)
		memory.LimitRetained(s.cfg.RetainedBytes)
		s.broker = memory
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

// closeBroker closes the broker. Nothing may use it any more.
func (s *Server) closeBroker() {
	if s.nats != nil {
		s.nats.Close()
	}
	if s.embedded != nil {
		s.embedded.Shutdown()
	}
}

// isLogOpen reports whether the log has been opened. Before that it is unknown what was
// published.
func (s *Server) isLogOpen() bool { return s.engine == nil || s.engine.Ready() }

// isBrokerReachable reports whether the broker was reachable within brokerGrace.
func (s *Server) isBrokerReachable() bool { return s.engine == nil || s.engine.Away() < brokerGrace }
