package broker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/bubble"
)

// Keys that are restored from the log live from the time of their events on.
func TestKeysRestored(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		k := broker.NewKeys()
		at := broker.Position{Epoch: "E", Offset: 7}
		p := broker.Publication{IdempotencyKey: "k", Digest: [32]byte{1}}
		k.Restore("k", p.Digest, at, time.Now().Add(-time.Minute))
		added := 0
		add := func() (broker.Position, error) {
			added++
			return broker.Position{Epoch: "E", Offset: 8}, nil
		}
		if again, err := k.Append(t.Context(), p, add); again != at || !errors.Is(err, broker.ErrRepeated) || added != 0 {
			t.Errorf("%v, %v, added %d times", again, err, added)
		}
		p.Digest = [32]byte{2}
		if _, err := k.Append(t.Context(), p, add); !errors.Is(err, broker.ErrKeyReused) || added != 0 {
			t.Errorf("%v, added %d times", err, added)
		}
		time.Sleep(broker.KeyLife - time.Minute) // fake clock
		if at, err := k.Append(t.Context(), p, add); at.Offset != 8 || err != nil || added != 1 {
			t.Errorf("%v, %v, added %d times", at, err, added)
		}
	})
}

// What could not be added is tried again, and who waits for what is being added may leave.
func TestKeysRefused(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		k := broker.NewKeys()
		p := broker.Publication{IdempotencyKey: "k"}
		over := make(chan error)
		go func() {
			_, err := k.Append(t.Context(), p, func() (broker.Position, error) {
				time.Sleep(time.Second) // fake clock
				return broker.Position{}, broker.ErrUnavailable
			})
			over <- err
		}()
		synctest.Wait()
		add := func() (broker.Position, error) { return broker.Position{Offset: 1}, nil }
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := k.Append(ctx, p, add); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := <-over; !errors.Is(err, broker.ErrUnavailable) {
			t.Error(err)
		}
		if at, err := k.Append(t.Context(), p, add); at.Offset != 1 || err != nil {
			t.Error(at, err)
		}
	})
}

// The memory of keys is bounded. The oldest are forgotten, and counted.
func TestKeysForgotten(t *testing.T) {
	m := broker.NewMemory(1<<20, time.Minute)
	publish := func(n int) error {
		_, err := m.Append(t.Context(), broker.Publication{Topics: []string{"t"}, IdempotencyKey: fmt.Sprint("key-", n)})
		return err
	}
	const many = broker.KeyBytes / 250
	for n := range many {
		if err := publish(n); err != nil {
			t.Fatal(err)
		}
	}
	if n := m.ForgottenKeys(); n == 0 || n > many/2 {
		t.Errorf("%d of %d forgotten", n, many)
	}
	if err := publish(many - 1); !errors.Is(err, broker.ErrRepeated) {
		t.Error("the newest:", err)
	}
	if err := publish(0); err != nil {
		t.Error("the oldest:", err)
	}
}
