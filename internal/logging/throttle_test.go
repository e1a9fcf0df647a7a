package logging

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"ssegateway/internal/bubble"
	"ssegateway/internal/logging/loggingtest"
)

// TestThrottle: the first line of an interval at once, and the number of the others at its end.
func TestThrottle(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var b loggingtest.Buffer
		l := New(&b, slog.LevelInfo, "text")
		throttle, before := Every(time.Second), LeftOut()
		log := func(n int) {
			for i := range n {
				throttle.Log(l, slog.LevelWarn, "odd", slog.Int("i", i))
			}
		}
		log(3)
		throttle.Log(l, slog.LevelDebug, "not wanted at this level")
		if got, want := b.String(), "[WARN] odd i=0\n"; got != want {
			t.Errorf("at once: %q, want %q", got, want)
		}
		time.Sleep(time.Second) // fake clock
		synctest.Wait()
		log(1)
		time.Sleep(2 * time.Second) // fake clock
		synctest.Wait()
		log(2)
		time.Sleep(time.Second) // fake clock
		synctest.Wait()
		want := "[WARN] odd i=0\n[WARN] odd left_out=2\n" + "[WARN] odd i=0\n" + "[WARN] odd i=0\n[WARN] odd left_out=1\n"
		if got := b.String(); got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
		if got := LeftOut() - before; got != 3 {
			t.Errorf("%d lines counted, want 3", got)
		}
	})
}

func TestCut(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", ""},
		{"/a", "/a"},
		{strings.Repeat("a", 200), strings.Repeat("a", 200)},
		{strings.Repeat("a", 201), strings.Repeat("a", 200) + "…(201 bytes)"},
		{strings.Repeat("a", 199) + "üü", strings.Repeat("a", 199) + "…(203 bytes)"},
		{strings.Repeat("\xbf", 300), strings.Repeat("\xbf", 196) + "…(300 bytes)"},
	} {
		if got := Cut(test.text); got != test.want {
			t.Errorf("Cut(%q) = %q, want %q", test.text, got, test.want)
		}
	}
}

func FuzzCut(f *testing.F) {
	f.Add(strings.Repeat("ü", 200))
	f.Fuzz(func(t *testing.T, s string) {
		got := Cut(s)
		if len(got) > maxText+40 || utf8.ValidString(s) && !utf8.ValidString(got) {
			t.Errorf("%q became %q", s, got)
		}
	})
}
