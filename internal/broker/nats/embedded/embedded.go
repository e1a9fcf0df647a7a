// Package embedded runs a NATS server in this process, for a gateway that is alone and
// whose log is to outlive it. It is a package of its own because of what it weighs: only
// programs that are built with the tag embedded have it.
package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	startTimeout = 30 * time.Second // for what it has stored to be read
	// syncInterval is how much of what was published a machine that loses its power
	// may lose; a process that is killed loses nothing.
	syncInterval = 5 * time.Second
	// messageOverhead is what a message may have beside the event, in bytes, as JSON.
	messageOverhead = 64 << 10
)

// Server is a NATS in this process, with its store in a directory. It listens nowhere.
type Server struct {
	server *server.Server
	lock   *os.File
}

// Start starts one, for events of at most maxEvent bytes. The directory is made where it
// is missing, and is this process's alone.
func Start(dir string, maxEvent int64, log *slog.Logger) (*Server, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("the store of the embedded NATS: %w", err)
	}
	payload := maxEvent + messageOverhead
	s, err := server.NewServer(&server.Options{
		ServerName: "ssegateway", DontListen: true, NoSigs: true,
		JetStream: true, StoreDir: dir, SyncInterval: syncInterval,
		MaxPayload: int32(min(payload, 1<<30)), MaxPending: max(server.MAX_PENDING_SIZE, payload), //nolint:gosec // below 2^31
	})
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("the embedded NATS: %w", err)
	}
	s.SetLoggerV2(serverLog{log}, false, false, false)
	s.Start()
	e := &Server{s, lock}
	if !s.ReadyForConnections(startTimeout) || !s.JetStreamEnabled() {
		e.Shutdown()
		return nil, errors.New("the embedded NATS does not start: see its errors before this")
	}
	return e, nil
}

// InProcessConn returns a connection to it.
func (s *Server) InProcessConn() (net.Conn, error) { return s.server.InProcessConn() }

// Shutdown ends it when what was published is stored.
func (s *Server) Shutdown() {
	s.server.Shutdown()
	s.server.WaitForShutdown()
	_ = s.lock.Close()
}

// serverLog takes what the server says. What is a notice to the operator of a NATS is
// none to that of a gateway.
type serverLog struct{ log *slog.Logger }

func (l serverLog) Noticef(format string, args ...any) {
	l.log.Debug("embedded NATS: " + fmt.Sprintf(format, args...))
}

func (l serverLog) Warnf(format string, args ...any) {
	l.log.Warn("embedded NATS: " + fmt.Sprintf(format, args...))
}

func (l serverLog) Errorf(format string, args ...any) {
	l.log.Error("embedded NATS: " + fmt.Sprintf(format, args...))
}

func (l serverLog) Fatalf(format string, args ...any) { l.Errorf(format, args...) }
func (l serverLog) Debugf(string, ...any)             {}
func (l serverLog) Tracef(string, ...any)             {}
