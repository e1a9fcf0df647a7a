package brokertest

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"

	"ssegateway/internal/broker"
	"ssegateway/internal/repeats"
)

func keyed(key, text string, store bool) broker.Publication {
	d := repeats.NewDigester("test")
	d.String(text)
	return broker.Publication{Topics: []string{"t"}, Event: event(text), Store: store, IdempotencyKey: key, Digest: d.Sum()}
}

// A repeat adds nothing, and gets the first one's position. Another event with the same key is
// refused.
func testKeyRepeated(t *testing.T, s Suite) {
	b := s.start(t, plenty, forLong)
	tailer, _ := b.Log().Tail()
	for n, store := range []bool{true, false, true} {
		p := keyed("k"+strconv.Itoa(n), strconv.Itoa(n), store)
		at, err := b.Append(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		b.publish("between", true, "t")
		for range 2 {
			if again, err := b.Append(t.Context(), p); again != at || !errors.Is(err, broker.ErrRepeated) {
				t.Errorf("%d: a repeat: %v, %v; want %v", n, again, err, at)
			}
		}
		if _, err := b.Append(t.Context(), keyed(p.IdempotencyKey, "other", store)); !errors.Is(err, broker.ErrKeyReused) {
			t.Errorf("%d: another event: %v", n, err)
		}
	}
	b.publish("last", true, "t")
	want := []string{"0", "between", "1", "between", "2", "between", "last"}
	for n, r := range take(t, tailer, len(want)) {
		if text(r) != want[n] {
			t.Errorf("record %d is %q, want %q", n, text(r), want[n])
		}
	}
}

// Of repeats at once one adds the event, and all get its position.
func testKeyAtOnce(t *testing.T, s Suite) {
	b := s.start(t, plenty, forLong)
	const each = 8
	for n := range 20 {
		p := keyed(strconv.Itoa(n), strconv.Itoa(n), true)
		var mu sync.Mutex
		added, positions := 0, map[broker.Position]bool{}
		var appending sync.WaitGroup
		for range each {
			appending.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				at, err := b.Append(ctx, p)
				mu.Lock()
				defer mu.Unlock()
				if positions[at] = true; err == nil {
					added++
				} else if !errors.Is(err, broker.ErrRepeated) {
					t.Error(err)
				}
			})
		}
		appending.Wait()
		if added != 1 || len(positions) != 1 {
			t.Errorf("%d: added %d times, at %v", n, added, positions)
		}
	}
	if n := b.Log().Stats().Events; n != 20 {
		t.Errorf("%d events", n)
	}
}
