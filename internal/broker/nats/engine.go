package nats

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/internal/broker"
)

// LogConfig says what is kept, and where on NATS.
type LogConfig struct {
	Prefix   string // of all names, for several installations on one NATS; no dots, spaces or wildcards
	MaxBytes int64  // of the window in memory
	MaxAge   time.Duration
	Replicas int // of the stream, in a cluster of NATS servers
}

// Engine implements broker.Engine. Until the log is opened for the first time it has an
// empty one, to which nothing is added. A log that is lost is opened anew, and succeeds the
// one before.
type Engine struct {
	conn *Conn
	cfg  LogConfig

	mu      sync.Mutex
	log     *broker.Log
	session *session // nil: the log is not open
	closed  bool
}

// NewEngine makes an Engine on a connection, which is its own from now on.
func NewEngine(conn *Conn, cfg LogConfig) *Engine {
	return &Engine{conn: conn, cfg: cfg, log: broker.NewLog("", cfg.MaxBytes, cfg.MaxAge)}
}

// Log implements broker.Engine.
func (e *Engine) Log() *broker.Log {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.log
}

// Ready says that the log has been opened.
func (e *Engine) Ready() bool { return e.Log().Epoch() != "" }

// Append implements broker.Engine.
func (e *Engine) Append(ctx context.Context, p broker.Publication) (broker.Position, error) {
	e.mu.Lock()
	s, closed := e.session, e.closed
	e.mu.Unlock()
	switch {
	case closed:
		return broker.Position{}, broker.ErrClosed
	case s == nil:
		return broker.Position{}, broker.ErrUnavailable
	}
	return s.append(ctx, p)
}

// Open opens the log before Run does, if it is to be had.
func (e *Engine) Open(ctx context.Context) error {
	s, err := open(ctx, e.conn, e.cfg)
	if err == nil {
		e.take(s)
	}
	return err
}

// Run implements broker.Engine. Whatever happens on NATS, it goes on until ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	defer e.conn.Close()
	defer e.close()
	told := ""
	for ctx.Err() == nil {
		e.mu.Lock()
		s := e.session
		e.mu.Unlock()
		if s == nil {
			err := e.Open(ctx)
			if err != nil && err.Error() != told && ctx.Err() == nil {
				told = err.Error()
				e.conn.log.Warn("the log cannot be opened", "error", told)
			}
			if err != nil {
				wait(ctx, reconnectWait/2+rand.N(reconnectWait)) //nolint:gosec // to spread, not to hide
			}
			continue
		}
		told = ""
		err := s.run(ctx)
		e.mu.Lock()
		e.session = nil
		e.mu.Unlock()
		if err != nil {
			e.conn.log.Error("the log is lost, and opened anew", "error", err.Error())
		}
		if errors.Is(err, errCutShort) {
			e.discard(ctx, s)
		}
	}
	return nil
}

func (e *Engine) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.log.Close()
}

// take goes on with the log of a session.
func (e *Engine) take(s *session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.log
	e.log, e.session = s.log, s
	before.Succeed(s.log)
	stats := s.log.Stats()
	e.conn.log.Info("the log is open", "epoch", stats.Epoch, "oldest", stats.Oldest, "last", stats.Last)
}

// discard deletes a stream that has lost its end. It would give numbers out again that
// clients have for other events; the next stream has another epoch.
func (e *Engine) discard(ctx context.Context, s *session) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	if _, err := s.current(ctx); err != nil {
		return // it is another one already
	}
	if err := s.js.DeleteStream(ctx, s.name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		e.conn.log.Error("the log that has lost its end", "error", fmt.Sprint(err))
	}
}
