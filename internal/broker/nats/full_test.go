package nats

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/internal/broker"
	"ssegateway/sse"
)

// refusedAtOnce says that an engine refuses an event without asking NATS.
func refusedAtOnce(t *testing.T, e *Engine) {
	t.Helper()
	begin := time.Now()
	_, err := e.Append(t.Context(), broker.Publication{Topics: []string{"a"}, Store: true})
	if took := time.Since(begin); !errors.Is(err, broker.ErrUnavailable) || took > appendTimeout/5 {
		t.Errorf("%v after %v", err, took)
	}
}

// Storage that other streams have filled: events are refused at once, and it is known. They
// are taken again when there is room, without anybody publishing.
func TestLogOnFullStorage(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	const limit = streamMargin + 3<<20
	if err := s.GlobalAccount().UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{
		"": {MaxMemory: -1, MaxStore: limit, MaxStreams: -1, MaxConsumers: -1},
	}); err != nil {
		t.Fatal(err)
	}
	e := mustEngine(t, at(s.ClientURL()))
	runEngine(t, e)
	append1(t, e, "1")

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	js, err := jetstream.New(e.conn.nats)
	if err != nil {
		t.Fatal(err)
	}
	other, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "other", Subjects: []string{"other"}})
	if err != nil {
		t.Fatal(err)
	}
	for size := 512 << 10; size > 0; {
		if _, err := js.Publish(ctx, "other", make([]byte, size)); isFull(err) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.Append(ctx, broker.Publication{Topics: []string{"a"}, Store: true}); !errors.Is(err, broker.ErrUnavailable) {
		t.Error(err)
	}
	if e.Stuck() == nil {
		t.Error("not stuck")
	}
	refusedAtOnce(t, e)
	if err := other.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	for tick := time.NewTicker(50 * time.Millisecond); e.Stuck() != nil; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("stuck for good")
		}
	}
	if _, err := e.Append(ctx, broker.Publication{Topics: []string{"a"}, Event: sse.Event{Data: "2"}, Store: true}); err != nil {
		t.Error(err)
	}
}

// publishLarge publishes an event that may fail.
func publishLarge(t *testing.T, e *Engine) {
	t.Helper()
	_, _ = e.Append(t.Context(), broker.Publication{Topics: []string{"a"}, Event: sse.Event{Data: strings.Repeat("x", 100_000)}, Store: true})
}
