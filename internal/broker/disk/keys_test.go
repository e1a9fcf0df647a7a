package disk

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/repeats"
	"ssegateway/sse"
)

func publishKeyed(t *testing.T, s *Store, key string, store bool) {
	t.Helper()
	if _, err := s.Append(t.Context(), broker.Publication{Topics: []string{"t"}, Event: sse.Event{Data: key}, Store: store, IdempotencyKey: key}); err != nil {
		t.Fatal(err)
	}
}

// TestForgottenKeys: a key that the memory has forgotten, because of its bound, is not kept in the table either.
func TestForgottenKeys(t *testing.T) {
	for _, store := range []bool{false, true} {
		s, err := open(t.TempDir(), Options{MaxBytes: 1, MaxAge: time.Hour}, env{segmentBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		const n, most = 50_000, broker.KeyBytes / (repeats.Overhead + 128)
		for i := range n {
			publishKeyed(t, s, fmt.Sprintf("%0128d", i), store)
			if i%10_000 == 0 {
				if err := s.upkeep(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := s.upkeep(); err != nil {
			t.Fatal(err)
		}
		if keys := inTable(s); s.ForgottenKeys() == 0 || keys == 0 || keys > most {
			t.Errorf("stored %v: %d keys in the table, %d of %d forgotten", store, keys, s.ForgottenKeys(), n)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKeysHoldNoFile: an old event that is stored does not hold the keys behind it, of events that are not, on the disk.
func TestKeysHoldNoFile(t *testing.T) {
	dir, o, e := t.TempDir(), Options{MaxBytes: 1 << 20, MaxAge: time.Hour}, env{segmentBytes: 1 << 10}
	s, err := open(dir, o, e)
	if err != nil {
		t.Fatal(err)
	}
	publish(t, s, "old")
	for i := range 1000 {
		publishKeyed(t, s, strconv.Itoa(i), false)
	}
	if err := s.upkeep(); err != nil {
		t.Fatal(err)
	}
	if n := len(s.events.Segments()); n > 2 {
		t.Errorf("%d files of one event", n)
	}
	_ = s.dir.Close() // killed
	if s, err = open(dir, o, e); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 999} {
		_, err := s.Append(t.Context(), broker.Publication{Topics: []string{"t"}, IdempotencyKey: strconv.Itoa(i)})
		if !errors.Is(err, broker.ErrRepeated) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
