package repeats

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"ssegateway/internal/bubble"
)

func newMemory(most int64) *Memory[string, int] {
	return New[string, int](most, 8, func(key string) int { return len(key) })
}

// size returns how many bytes the keys count as now.
func size(m *Memory[string, int]) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expireLocked(time.Now())
	return m.bytes
}

func digest(s string) Digest {
	d := NewDigester("test")
	d.String(s)
	return d.Sum()
}

// do carries n out under a key, unless it is a repeat.
func do(t *testing.T, m *Memory[string, int], key, what string, n int) (v int, repeated bool, err error) {
	t.Helper()
	return m.Do(t.Context(), key, digest(what), func() (int, bool, error) { return n, true, nil })
}

func expect(t *testing.T, m *Memory[string, int], key string, n, want int, repeat bool) {
	t.Helper()
	if got, repeated, err := do(t, m, key, key, n); got != want || repeated != repeat || err != nil {
		t.Errorf("%s: %d, repeated %v, %v; want %d, %v", key, got, repeated, err, want, repeat)
	}
}

// What was carried out is remembered for two minutes from then on, however often it is repeated.
func TestLife(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		m := newMemory(1 << 20)
		expect(t, m, "a", 1, 1, false)
		time.Sleep(time.Minute) // fake clock
		expect(t, m, "a", 2, 1, true)
		expect(t, m, "b", 3, 3, false)
		time.Sleep(time.Minute - 1) // fake clock
		expect(t, m, "a", 4, 1, true)
		time.Sleep(time.Nanosecond) // fake clock
		expect(t, m, "a", 5, 5, false)
		expect(t, m, "b", 6, 3, true)
		time.Sleep(Life) // fake clock
		if n := size(m); n != 0 || m.entries != nil || m.kept.Len() != 0 || m.Forgotten() != 0 {
			t.Errorf("%d bytes, %d entries, %d forgotten", n, len(m.entries), m.Forgotten())
		}
	})
}

// The life begins when it was carried out, not when that was begun.
func TestLifeBegins(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		m := newMemory(1 << 20)
		_, _, err := m.Do(t.Context(), "a", digest("a"), func() (int, bool, error) {
			time.Sleep(3 * Life) // fake clock
			return 1, true, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(Life - 1) // fake clock
		expect(t, m, "a", 2, 1, true)
	})
}

func TestReused(t *testing.T) {
	m := newMemory(1 << 20)
	expect(t, m, "a", 1, 1, false)
	if _, _, err := do(t, m, "a", "something else", 2); !errors.Is(err, ErrReused) {
		t.Error(err)
	}
	expect(t, m, "a", 3, 1, true)
}

// A refusal is not remembered, nor is what panicked.
func TestRefused(t *testing.T) {
	m := newMemory(1 << 20)
	refused := errors.New("refused")
	if _, repeated, err := m.Do(t.Context(), "a", digest("a"), func() (int, bool, error) { return 1, false, refused }); repeated || !errors.Is(err, refused) {
		t.Error(repeated, err)
	}
	func() {
		defer func() { _ = recover() }()
		_, _, _ = m.Do(t.Context(), "a", digest("a"), func() (int, bool, error) { panic("x") })
	}()
	if size(m) != 0 {
		t.Errorf("%d bytes", size(m))
	}
	expect(t, m, "a", 2, 2, false)
}

// While the first is under way repeats wait for it. If it is refused, one of them is tried, and the others
// wait for that one.
func TestUnderWay(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		m := newMemory(1 << 20)
		refused := errors.New("refused")
		calls := 0 // one at a time
		act := func() (int, bool, error) {
			calls++
			time.Sleep(time.Second) // fake clock
			if calls == 1 {
				return 0, false, refused
			}
			return calls, true, nil
		}
		results := make(chan error, 5)
		acted := make(chan bool, 5)
		for range 5 {
			go func() {
				v, repeated, err := m.Do(t.Context(), "a", digest("a"), act)
				if err == nil && v != 2 {
					err = errors.New(strconv.Itoa(v))
				}
				results <- err
				acted <- err == nil && !repeated
			}()
		}
		synctest.Wait()
		if _, _, err := do(t, m, "a", "other", 1); !errors.Is(err, ErrReused) { // told at once
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, _, err := m.Do(ctx, "a", digest("a"), act); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		failed, first := 0, 0
		for range 5 {
			if err := <-results; errors.Is(err, refused) {
				failed++
			} else if err != nil {
				t.Error(err)
			}
			if <-acted {
				first++
			}
		}
		if failed != 1 || first != 1 || calls != 2 {
			t.Errorf("%d failed, %d acted, %d calls", failed, first, calls)
		}
	})
}

// Beyond the bound the oldest are forgotten, and counted. What is under way is not.
func TestBound(t *testing.T) {
	m := newMemory(10 * (Overhead + 8 + 1))
	claim, _, _, _ := m.Begin("x", digest("x"))
	for n := range 20 {
		expect(t, m, string(rune('a'+n)), n, n, false)
	}
	expect(t, m, "t", 0, 19, true) // the newest
	if size(m) > m.most || m.Forgotten() != 11 {
		t.Errorf("%d bytes of %d, %d forgotten", size(m), m.most, m.Forgotten())
	}
	for n := 11; n < 20; n++ {
		expect(t, m, string(rune('a'+n)), -1, n, true)
	}
	claim.Keep(7)
	expect(t, m, "x", -1, 7, true)
	expect(t, m, "a", 30, 30, false)
}

// What is restored lives from its own time on, and does not replace what is known.
func TestRestore(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		m := newMemory(1 << 20)
		now := time.Now()
		m.Restore("old", digest("old"), 1, now.Add(-Life))
		m.Restore("a", digest("a"), 1, now.Add(-Life/2))
		m.Restore("b", digest("b"), 2, now.Add(time.Hour)) // by a clock that was wrong
		m.Restore("a", digest("a"), 3, now)
		expect(t, m, "old", 4, 4, false)
		expect(t, m, "a", 5, 1, true)
		expect(t, m, "b", 6, 2, true)
		time.Sleep(Life / 2) // fake clock
		expect(t, m, "a", 7, 7, false)
		time.Sleep(Life / 2) // fake clock
		expect(t, m, "b", 8, 8, false)
	})
}

// The memory against a simple truth: every key acts at most once within its life, and exactly once if
// its last answer was no refusal.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rapid.SyncTest(rt, func(rt *rapid.T) {
			type truth struct {
				value int
				what  string
				at    time.Time
			}
			m, known, acts := newMemory(1<<20), map[string]truth{}, 0
			refused := errors.New("refused")
			for range rapid.IntRange(1, 60).Draw(rt, "steps") {
				time.Sleep(time.Duration(rapid.IntRange(0, 50).Draw(rt, "seconds")) * time.Second) // fake clock
				key := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "key")
				what := rapid.SampledFrom([]string{"x", "x", "x", "y"}).Draw(rt, "what")
				refuse := rapid.Bool().Draw(rt, "refuse")
				before := acts
				v, repeated, err := m.Do(rt.Context(), key, digest(what), func() (int, bool, error) {
					if refuse {
						return 0, false, refused
					}
					acts++
					return acts, true, nil
				})
				first, found := known[key]
				found = found && time.Since(first.at) < Life
				switch {
				case found && first.what != what:
					if !errors.Is(err, ErrReused) || acts != before {
						rt.Fatalf("reused: %v", err)
					}
				case found:
					if v != first.value || !repeated || err != nil || acts != before {
						rt.Fatalf("a repeat of %d: %d, %v, %v", first.value, v, repeated, err)
					}
				case refuse:
					if repeated || !errors.Is(err, refused) {
						rt.Fatalf("refused: %v, %v", repeated, err)
					}
				default:
					if v != acts || acts != before+1 || repeated || err != nil {
						rt.Fatalf("the first: %d, %v, %v", v, repeated, err)
					}
					known[key] = truth{v, what, time.Now()}
				}
			}
		})
	})
}
