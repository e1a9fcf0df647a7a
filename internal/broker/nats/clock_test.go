package nats

import (
	"strings"
	"testing"
	"time"
)

// How old a message is depends on NATS's clock alone. Otherwise a node whose wall clock is an hour ahead
// would drop its whole log, and tell its clients of gaps that are none.
func TestServerClock(t *testing.T) {
	began := time.Now()
	for name, c := range map[string]struct {
		ahead  time.Duration // of NATS's wall clock before this host's
		stored time.Duration // before the pair was taken
		later  time.Duration // when it is asked
		age    time.Duration
	}{
		"same clocks":             {0, time.Minute, 0, time.Minute},
		"this host is ahead":      {-time.Hour, time.Minute, 0, time.Minute},
		"this host is behind":     {time.Hour, time.Minute, 0, time.Minute},
		"stored since":            {time.Hour, -2 * time.Second, 3 * time.Second, time.Second},
		"its clock was put forth": {0, -time.Hour, 3 * time.Second, 0},
		"an old message":          {-time.Hour, 24 * time.Hour, time.Second, 24*time.Hour + time.Second},
	} {
		var clock serverClock
		there := began.Add(c.ahead).Round(0) // as from the wire, without a monotonic reading
		clock.set(began, there)
		now := began.Add(c.later)
		if age := now.Sub(clock.local(there.Add(-c.stored), now)); age != c.age {
			t.Errorf("%s: %s old, want %s", name, age, c.age)
		}
	}
}

// A time that is converted keeps the monotonic reading, so a later step of the wall clock does not change its age.
func TestServerClockIsMonotonic(t *testing.T) {
	var clock serverClock
	now := time.Now()
	clock.set(now, now.Round(0))
	if at := clock.local(now.Add(-time.Minute).Round(0), now).String(); !strings.Contains(at, " m=") {
		t.Errorf("%s has no monotonic reading", at)
	}
	if at := new(serverClock).local(now.Round(0), now); !at.Equal(now) {
		t.Errorf("without NATS's time: %s, want now", at)
	}
}
