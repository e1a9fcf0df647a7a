package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/guard"
	"ssegateway/sse"
)

const (
	trimInterval  = time.Second
	appendTimeout = 5 * time.Second // for NATS to store an event, and for this node to read it back
	probeInterval = 2 * time.Second // between probes while it does not
	probeBytes    = 4 << 10         // size of a probe
)

// LogConfig has the bounds of the log and its place on NATS.
type LogConfig struct {
	Prefix   string // of all names, for several installations on one NATS; no dots, spaces or wildcards
	MaxBytes int64  // of the window in memory
	MaxAge   time.Duration
	Replicas int // of the stream, in a cluster of NATS servers

	RetainedBytes int64 // what all retained events may take in memory

	own *interest // the topics that the node reads; nil: all
}

// Engine implements broker.Engine. Until the log is opened for the first time, Log returns an
// empty one to which nothing is added. A log that is lost is opened anew, and the new one
// replaces the old one.
type Engine struct {
	conn *Conn
	cfg  LogConfig

	mu      sync.Mutex
	log     *broker.Log
	session *session  // nil: the log is not open
	since   time.Time // when the log ceased to be open
	stuck   error     // why the last append was not stored; nil: it was
	closed  bool
}

// NewEngine makes an Engine on a connection, which must outlive it.
func NewEngine(conn *Conn, cfg LogConfig) *Engine {
	return &Engine{conn: conn, cfg: cfg, log: broker.NewLog("", cfg.MaxBytes, cfg.MaxAge), since: time.Now()}
}

// Log implements broker.Engine.
func (e *Engine) Log() *broker.Log {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.log
}

// Ready reports whether the log has been opened.
func (e *Engine) Ready() bool { return e.Log().Epoch() != "" }

// Away returns how long it has been impossible to append, as far as is known; 0: it is possible.
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
	if err := e.Stuck(); err != nil {
		return broker.Position{}, fmt.Errorf("%w: %w", broker.ErrUnavailable, err)
	}
	at, err := e.append(ctx, s, p)
	if errors.Is(err, broker.ErrFull) || errors.Is(err, errSlow) && !errors.Is(err, errRetaining) && s.answers(ctx) {
		e.setStuck(err)
	}
	return at, err
}

var errSlow = errors.New("no answer in time")

func (e *Engine) append(ctx context.Context, s *session, p broker.Publication) (broker.Position, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, appendTimeout, errSlow)
	defer cancel()
	at, err := s.append(ctx, p)
	if errors.Is(err, broker.ErrUnavailable) && errors.Is(context.Cause(ctx), errSlow) {
		err = fmt.Errorf("%w: %w", errSlow, err)
	}
	if isFull(err) {
		err = fmt.Errorf("%w: %w", broker.ErrFull, err)
	}
	return at, err
}

// Stuck returns why events are refused although NATS is connected: the storage was full, or NATS
// did not answer, and nothing has been stored since. It returns nil if they are not refused. While
// the stream has no leader they are not refused: one may be elected in time for the next event.
func (e *Engine) Stuck() error {
	if e.conn.Full() {
		return broker.ErrFull
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stuck
}

func (e *Engine) setStuck(err error) {
	e.mu.Lock()
	fresh := e.stuck == nil
	e.stuck = err
	e.mu.Unlock()
	if fresh {
		e.conn.lines.stuck.Log(e.conn.log, slog.LevelWarn, "events cannot be added to the log, and are refused", slog.String("error", err.Error()))
	}
}

// probe appends an event without topics, which no connection gets, while the log is stuck.
func (e *Engine) probe(ctx context.Context) {
	e.mu.Lock()
	s, stuck := e.session, e.stuck != nil
	e.mu.Unlock()
	if !stuck || s == nil || e.conn.Away() > 0 || e.conn.Full() {
		return
	}
	if _, err := e.append(ctx, s, broker.Publication{Event: sse.Event{Data: strings.Repeat(" ", probeBytes)}}); err != nil {
		return
	}
	e.mu.Lock()
	e.stuck = nil
	e.mu.Unlock()
	e.conn.lines.unstuck.Log(e.conn.log, slog.LevelInfo, "events can be added to the log again")
}

// Open opens the log before Run does, if it is available.
func (e *Engine) Open(ctx context.Context) error {
	s, err := open(ctx, e.conn, e.cfg)
	if err == nil {
		e.take(s)
	}
	return err
}

// Run implements broker.Engine. It goes on until ctx ends, whatever happens on NATS.
func (e *Engine) Run(ctx context.Context) error {
	defer e.close()
	ctx, cancel := context.WithCancel(ctx)
	var beside sync.WaitGroup
	defer beside.Wait()
	defer cancel() // also on a panic: beside.Wait would otherwise never return
	beside.Go(func() {
		defer guard.Recover()
		broker.Every(ctx, trimInterval, func() { e.Log().Trim() })
	})
	beside.Go(func() {
		defer guard.Recover()
		broker.Every(ctx, probeInterval, func() { e.probe(ctx) })
	})
	beside.Go(func() {
		defer guard.Recover()
		broker.Every(ctx, tidyInterval+rand.N(tidyInterval), func() { e.tidy(ctx) }) //nolint:gosec // to spread, not to hide
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
					e.conn.lines.unopened.Log(e.conn.log, slog.LevelWarn, "the log cannot be opened", slog.String("error", told))
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
		if err != nil && !errors.Is(err, errReopen) {
			e.conn.lines.lost.Log(e.conn.log, slog.LevelError, "the log is lost, and opened anew", slog.String("error", err.Error()))
		}
		if errors.Is(err, errCutShort) {
			for s.renew(ctx) != nil && ctx.Err() == nil { // otherwise the old log would be opened unchanged
				pause(ctx, e.conn.back())
			}
		}
	}
	return nil
}

// pause waits between two attempts. It returns at once when the connection comes back.
func pause(ctx context.Context, back <-chan struct{}) {
	select {
	case <-ctx.Done():
	case <-back:
	case <-time.After(reconnectWait/2 + rand.N(reconnectWait)): //nolint:gosec // to spread, not to hide
	}
}

func (e *Engine) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.log.Close()
}

// take makes the log of a session the current one.
func (e *Engine) take(s *session) {
	e.mu.Lock()
	before := e.log
	e.log, e.session = s.log, s
	before.ReplaceWith(s.log)
	e.mu.Unlock()
	stats := s.log.Stats()
	e.conn.lines.open.Log(e.conn.log, slog.LevelInfo, "the log is open",
		slog.String("epoch", stats.Epoch), slog.Uint64("oldest", stats.Oldest), slog.Uint64("last", stats.Last))
}
