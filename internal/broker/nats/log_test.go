package nats

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// patientLog is a log that calls back before it takes a line.
type patientLog struct {
	slog.Handler

	t     *testing.T
	call  func()
	lines int
}

func (p *patientLog) Enabled(context.Context, slog.Level) bool { return true }

func (p *patientLog) Handle(_ context.Context, r slog.Record) error {
	p.lines++
	over := make(chan struct{})
	go func() {
		p.call()
		close(over)
	}()
	select {
	case <-over:
	case <-time.After(5 * time.Second):
		p.t.Errorf("%q is logged under a lock", r.Message)
	}
	return nil
}

// TestNoLineUnderLock: a log that takes its time keeps nobody from the connection or the log.
func TestNoLineUnderLock(t *testing.T) {
	t.Parallel()
	lines := &patientLog{Handler: slog.DiscardHandler, t: t}
	c := &Conn{log: slog.New(lines), again: make(chan struct{}), unlink: func() {}}
	lines.call = func() { c.back() }
	c.away(io.EOF)
	c.upWith(nil)
	c.upWith(errors.New("too old"))
	if lines.lines != 3 {
		t.Errorf("%d lines, want 3", lines.lines)
	}

	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	place := at(s.ClientURL())
	lines = &patientLog{Handler: slog.DiscardHandler, t: t, call: func() {}}
	place.Log = slog.New(lines)
	e := mustEngine(t, place)
	lines.call = func() { e.Log() }
	if err := e.Open(t.Context()); err != nil || lines.lines == 0 {
		t.Errorf("%v, %d lines", err, lines.lines)
	}
}
