package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// lineCount counts log lines by their message.
type lineCount struct {
	slog.Handler

	mu   sync.Mutex
	seen map[string]int
}

func newLineCount() *lineCount {
	return &lineCount{Handler: slog.DiscardHandler, seen: map[string]int{}}
}

func (*lineCount) Enabled(context.Context, slog.Level) bool { return true }

func (c *lineCount) Handle(_ context.Context, r slog.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[r.Message]++
	return nil
}

// few says that there is a line of each message, and not many.
func (c *lineCount) few(t *testing.T, messages ...string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range messages {
		if n := c.seen[m]; n == 0 || n > 4 {
			t.Errorf("%d lines %q", n, m)
		}
	}
}

// What an outage repeats is not logged each time.
func TestFewLinesOfAnOutage(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	lines := newLineCount()
	cfg := at(s.ClientURL())
	cfg.Log = slog.New(lines)
	e := mustEngine(t, cfg)
	for i := range 1000 {
		e.conn.nats.Opts.AsyncErrorCB(e.conn.nats, nil, nats.ErrConnectionClosed)
		e.conn.away(fmt.Errorf("server %d of the two is away", i%2))
		if i%10 == 0 {
			e.conn.upWith(nil)
		}
		e.setStuck(errors.New("no answer"))
		e.mu.Lock()
		e.stuck = nil
		e.mu.Unlock()
		e.conn.fill(errors.New("full"))
	}
	lines.few(t, "NATS", "NATS is away", "NATS is back", "the storage of NATS is full", "events cannot be added to the log, and are refused")
}

// What somebody else writes to the log's subject is not logged each time.
func TestFewLinesOfForeignMessages(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	lines := newLineCount()
	cfg := at(s.ClientURL())
	cfg.Log = slog.New(lines)
	e := mustOpen(t, cfg)
	run(t, e)
	for range 1000 {
		if _, err := e.js.Publish(t.Context(), e.subject, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, e, "1")
	lines.few(t, "a message in the log is passed over")
}
