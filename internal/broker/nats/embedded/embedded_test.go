package embedded_test

import (
	"context"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ssegateway/internal/broker"
	"ssegateway/internal/broker/nats"
	"ssegateway/internal/broker/nats/embedded"
	"ssegateway/sse"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const maxEvent = 2 << 20

func start(t *testing.T, dir string) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(dir, maxEvent, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// with runs an engine on the server while f does, and then ends both.
func with(t *testing.T, s *embedded.Server, f func(ctx context.Context, e *nats.Engine)) {
	t.Helper()
	defer s.Shutdown()
	conn, err := nats.Dial(nats.Config{InProcess: s, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	e := nats.NewEngine(conn, nats.LogConfig{Prefix: "x", MaxBytes: 64 << 20, MaxAge: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := e.Open(ctx); err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- e.Run(running) }()
	f(ctx, e)
	stop()
	if err := <-over; err != nil {
		t.Error(err)
	}
}

// What was published is there when the server runs anew, also an event of the greatest
// size that a request may have.
func TestLogOutlivesServer(t *testing.T) {
	dir := t.TempDir()
	large := strings.Repeat("x", maxEvent)
	var last broker.Position
	with(t, start(t, dir), func(ctx context.Context, e *nats.Engine) {
		for _, data := range []string{"1", large} {
			var err error
			if last, err = e.Append(ctx, broker.Publication{Topics: []string{"a"}, Event: sse.Event{Data: data}, Store: true}); err != nil {
				t.Fatal(err)
			}
		}
	})
	with(t, start(t, dir), func(_ context.Context, e *nats.Engine) {
		missed, reaches := e.Log().Missed(0, last.Offset, []string{"a"}, 10)
		if len(missed) != 2 || !reaches || e.Log().Epoch() != last.Epoch || missed[1].Offset != last.Offset || missed[1].Frame.Len() < maxEvent {
			t.Errorf("%d events, reaches: %v, epoch %q, want those up to %v", len(missed), reaches, e.Log().Epoch(), last)
		}
	})
}

// Two processes on one directory would ruin it.
func TestDirectoryIsOnesOwn(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no locks on files there")
	}
	dir := t.TempDir()
	first := start(t, dir)
	if s, err := embedded.Start(dir, maxEvent, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "locked") {
		t.Errorf("a second server on the same directory: %v", err)
		if s != nil {
			s.Shutdown()
		}
	}
	first.Shutdown()
	start(t, dir).Shutdown()
}
