package topics

import (
	"context"
	"strings"
	"testing"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/bubble"
	"ssegateway/sse"
)

// When Publish has returned, it leaves no waiter behind.
func TestPublishForgets(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		engine := broker.NewMemory(1<<20, time.Hour)
		all := New(engine, false)
		ctx, cancel := context.WithCancel(t.Context())
		publish := func(ctx context.Context) {
			_, _, err := all.Publish(ctx, []string{"t"}, sse.Event{}, true)
			if err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			all.waiters.Range(func(ref, _ any) bool {
				t.Errorf("publication %d is still waited for", ref)
				return true
			})
		}
		early, stop := context.WithTimeout(ctx, time.Second)
		defer stop()
		publish(early) // not delivered: Run has not started
		over := make(chan error)
		go func() { over <- all.Run(ctx) }()
		publish(ctx)
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
}

func TestValidName(t *testing.T) {
	for s, want := range map[string]bool{
		"": false, "a": true, "room.7": true, "ä ö": true, "a\nb": false, "a\x00": false, "a\x7f": false, "a\u0085": false, "\xff": false,
		strings.Repeat("x", 256): true, strings.Repeat("x", 257): false, strings.Repeat("ä", 128): true, strings.Repeat("ä", 129): false,
	} {
		if got := ValidName(s); got != want {
			t.Errorf("ValidName(%q) returned %v", s, got)
		}
	}
}
