package server

import (
	"errors"
	"fmt"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/broker/disk"
	"ssegateway/internal/broker/nats"
	"ssegateway/internal/records"
)

// brokerGrace is how long NATS may be down, or STATE_DIR not be writable, before the gateway reports
// that it is not ready. Streams go on meanwhile, and a restart of NATS takes less than that.
const brokerGrace = 5 * time.Second

// openBroker makes and connects the engine of the log that the settings ask for. It succeeds
// also while the broker is down.
func (s *Server) openBroker() (err error) {
	switch {
	case s.cfg.StateDir != "":
		s.disk, err = disk.Open(s.cfg.StateDir, disk.Options{MaxBytes: s.cfg.LogBytes, MaxAge: s.cfg.LogAge, RetainedBytes: s.cfg.RetainedBytes, Sync: s.cfg.StateSync == "always", Log: s.log})
		if err != nil {
			return fmt.Errorf("STATE_DIR: %w", err)
		}
		s.broker, s.records = s.disk, records.New(s.disk, s.log)
		return nil
	case s.cfg.NATSURL == "":
		memory := broker.NewMemory(s.cfg.LogBytes, s.cfg.LogAge)
		memory.LimitRetained(s.cfg.RetainedBytes)
		s.broker = memory
		return nil
	}
	s.nats, err = nats.Dial(nats.Config{URL: s.cfg.NATSURL, CredentialsFile: s.cfg.NATSCredentialsFile, CAFile: s.cfg.NATSCAFile, Log: s.log})
	if err != nil {
		return err
	}
	log := nats.LogConfig{
		Prefix: s.cfg.NATSPrefix, MaxBytes: s.cfg.LogBytes, MaxAge: s.cfg.LogAge, Replicas: s.cfg.NATSReplicas,
		RetainedBytes: s.cfg.RetainedBytes,
	}
	if s.cfg.NATSRead == "own" {
		selective := nats.NewSelective(s.nats, log)
		s.engine, s.broker = selective.Engine, selective
		return nil
	}
	s.engine = nats.NewEngine(s.nats, log)
	s.broker = s.engine
	return nil
}

// closeBroker closes the broker. Nothing may use it any more.
func (s *Server) closeBroker() {
	if s.nats != nil {
		s.nats.Close()
	}
	if s.disk != nil {
		if err := s.disk.Close(); err != nil {
			s.log.Error("STATE_DIR: it is not as after a clean stop", "error", err.Error())
		}
	}
}

// isLogOpen reports whether the log has been opened. Before that it is unknown what was
// published.
func (s *Server) isLogOpen() bool { return s.engine == nil || s.engine.Ready() }

// isBrokerReachable reports whether the broker was reachable within brokerGrace.
func (s *Server) isBrokerReachable() bool { return s.engine == nil || s.engine.Away() < brokerGrace }

// isStateWritable reports whether STATE_DIR was writable within brokerGrace.
func (s *Server) isStateWritable() bool { return s.disk == nil || s.disk.Away() < brokerGrace }

// leaveEnds leaves what the backend was not told of to the next process. Nothing but the directory
// is in use any more. failure is the error that the drain ended with.
func (s *Server) leaveEnds(failure error) error {
	if s.records == nil || s.callbacks == nil {
		return failure
	}
	left, lost := s.records.Leave(s.callbacks.Undelivered)
	if left > 0 {
		s.log.Warn("stopped before the backend was told of every end: the next process with this STATE_DIR tells it", "undelivered", left, "lost", lost)
	}
	if lost == 0 && errors.As(failure, new(undelivered)) {
		return nil
	}
	return failure
}
