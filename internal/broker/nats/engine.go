package nats

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/guard"
)

const (
	trimInterval  = time.Second
	appendTimeout = 5 * time.Second // for NATS to store an event, and for this node to read it back
)

// LogConfig says what is kept, and where on NATS.
type LogConfig struct {
	Prefix   string // of all names, for several installations on one NATS; no dots, spaces or wildcards
	MaxBytes int64  // of the window in memory
	MaxAge   time.Duration
	Replicas int // of the stream, in a cluster of NATS servers
}

// Engine implements broker.Engine. Until the log is opened for the first time it has an
// empty one, to which nothing is added. A log that is lost is opened anew, and replaces the
// one before.
type Engine struct {
	conn *Conn
	cfg  LogConfig

	mu      sync.Mutex
	log     *broker.Log
	session *session  // nil: the log is not open
	since   time.Time // when it ceased to be
	closed  bool
}

// NewEngine makes an Engine on a connection, which outlives it.
func NewEngine(conn *Conn, cfg LogConfig) *Engine {
	return &Engine{conn: conn, cfg: cfg, log: broker.NewLog("", cfg.MaxBytes, cfg.MaxAge), since: time.Now()}
}

// Log implements broker.Engine.
func (e *Engine) Log() *broker.Log {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.log
}

// Ready says that the log has been opened.
func (e *Engine) Ready() bool { return e.Log().Epoch() != "" }

// Away is for how long nothing can be appended, as far as is known; 0: it can.
func (e *Engine) Away() time.Duration {
	away := e.conn.Away()
	e.mu.Lock()
	s, since := e.session, e.since
	e.mu.Unlock()
	if s != nil {
		since = s.silentSince()
	}
	if !since.IsZero() {
		away = max(away, time.Since(since), 1)
	}
	return away
}

// Append implements broker.Engine.
func (e *Engine) Append(ctx context.Context, p broker.Publication) (broker.Position, error) {
	e.mu.Lock()
	s, closed := e.session, e.closed
	e.mu.Unlock()
	switch {
	case closed:
		return broker.Position{}, broker.ErrClosed
	case s == nil || e.conn.gone():
		return broker.Position{}, broker.ErrUnavailable
	}
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
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
	defer e.close()
	ctx, cancel := context.WithCancel(ctx)
	var trimming sync.WaitGroup
	defer trimming.Wait()
	defer cancel() // by a panic, too, which else would wait for that
	trimming.Go(func() {
		defer guard.Recover()
		e.trim(ctx)
	})
	told := ""
	for ctx.Err() == nil {
		e.mu.Lock()
		s := e.session
		e.mu.Unlock()
		back := e.conn.back()
		if s == nil {
			err := broker.ErrUnavailable
			if e.conn.Away() == 0 {
				err = e.Open(ctx)
				if err != nil && err.Error() != told && ctx.Err() == nil {
					told = err.Error()
					e.conn.log.Warn("the log cannot be opened", "error", told)
				}
			}
			if err != nil {
				pause(ctx, back)
			}
			continue
		}
		told = ""
		err := s.run(ctx)
		e.mu.Lock()
		e.session, e.since = nil, time.Now()
		e.mu.Unlock()
		if err != nil {
			e.conn.log.Error("the log is lost, and opened anew", "error", err.Error())
		}
		if errors.Is(err, errCutShort) {
			for s.renew(ctx) != nil && ctx.Err() == nil { // else it would be opened as if nothing were
				pause(ctx, e.conn.back())
			}
		}
	}
	return nil
}

// pause is between two attempts; it is over at once when the connection comes back.
func pause(ctx context.Context, back <-chan struct{}) {
	select {
	case <-ctx.Done():
	case <-back:
	case <-time.After(reconnectWait/2 + rand.N(reconnectWait)): //nolint:gosec // to spread, not to hide
	}
}

// trim drops what is too old.
func (e *Engine) trim(ctx context.Context) {
	ticker := time.NewTicker(trimInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			e.Log().Trim()
		}
	}
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
	before := e.log
	e.log, e.session = s.log, s
	before.ReplaceWith(s.log)
	e.mu.Unlock()
	stats := s.log.Stats()
	e.conn.log.Info("the log is open", "epoch", stats.Epoch, "oldest", stats.Oldest, "last", stats.Last)
}
