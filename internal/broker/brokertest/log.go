package brokertest

import (
	"context"
	"log/slog"
	"testing"
	"time"
)

// PatientLog is a log that calls a function before it takes a line. It fails the test if the
// function does not return, since the line is then logged under a lock that the function needs.
type PatientLog struct {
	slog.Handler // the other methods; it discards

	Call  func()
	Lines int // that it took

	t *testing.T
}

// NewPatientLog returns a log whose Call does nothing yet.
func NewPatientLog(t *testing.T) *PatientLog {
	return &PatientLog{Handler: slog.DiscardHandler, Call: func() {}, t: t}
}

// Enabled is true of every line.
func (p *PatientLog) Enabled(context.Context, slog.Level) bool { return true }

// Handle takes a line.
func (p *PatientLog) Handle(_ context.Context, r slog.Record) error {
	p.Lines++
	over := make(chan struct{})
	go func() {
		p.Call()
		close(over)
	}()
	select {
	case <-over:
	case <-time.After(5 * time.Second):
		p.t.Errorf("%q is logged under a lock", r.Message)
	}
	return nil
}
