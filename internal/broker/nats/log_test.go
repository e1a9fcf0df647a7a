package nats

import (
	"errors"
	"io"
	"log/slog"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"ssegateway/internal/broker/brokertest"
)

// TestNoLineUnderLock: a log that takes its time keeps nobody from the connection or the log.
func TestNoLineUnderLock(t *testing.T) {
	t.Parallel()
	lines := brokertest.NewPatientLog(t)
	c := &Conn{log: slog.New(lines), lines: newLines(), again: make(chan struct{}), unlink: func() {}}
	lines.Call = func() { c.back() }
	c.away(io.EOF)
	c.upWith(nil)
	c.upWith(errors.New("too old"))
	if lines.Lines != 3 {
		t.Errorf("%d lines, want 3", lines.Lines)
	}

	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	place := at(s.ClientURL())
	lines = brokertest.NewPatientLog(t)
	place.Log = slog.New(lines)
	conn, err := Dial(place.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	e := NewEngine(conn, place.LogConfig)
	lines.Call = func() { e.Log() }
	if err = e.Open(t.Context()); err != nil || lines.Lines == 0 {
		t.Errorf("%v, %d lines", err, lines.Lines)
	}
}
