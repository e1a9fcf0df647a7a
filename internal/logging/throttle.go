package logging

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// Throttle bounds the lines of one kind, which others (strangers, a broker that is away)
// can cause as often as they like. The first line is written at once. Those that follow
// within the interval are left out; at its end one line says how many they were:
//
//	[WARN] the answer to the connect callback is ignored token=… error="unexpected EOF"
//	[WARN] the answer to the connect callback is ignored left_out=431
//
// So there are at most two lines of a kind in an interval. Make one Throttle for each
// place that logs. Its methods are safe for concurrent use.
type Throttle struct {
	interval time.Duration

	mu      sync.Mutex
	open    bool // an interval has begun, and its timer runs
	left    int  // lines left out in it
	level   slog.Level
	message string // of the last one left out
}

// Every makes a Throttle that lets one line through in each interval.
func Every(interval time.Duration) *Throttle { return &Throttle{interval: interval} }

// leftOut counts for the whole process.
var leftOut atomic.Uint64

// LeftOut returns how many lines all Throttles have left out so far.
func LeftOut() uint64 { return leftOut.Load() }

// Log writes the line to log, or counts it. What the arguments cost the caller pays in
// both cases: they should be cheap.
func (t *Throttle) Log(log *slog.Logger, level slog.Level, message string, attrs ...slog.Attr) {
	t.LogContext(context.Background(), log, level, message, attrs...)
}

// LogContext is Log for a line of a request, with the request's context.
func (t *Throttle) LogContext(ctx context.Context, log *slog.Logger, level slog.Level, message string, attrs ...slog.Attr) {
	if !log.Enabled(ctx, level) {
		return
	}
	t.mu.Lock()
	first := !t.open
	if first {
		t.open = true
		time.AfterFunc(t.interval, func() { t.close(log) })
	} else {
		t.left++
		t.level, t.message = level, message
		leftOut.Add(1)
	}
	t.mu.Unlock()
	if first {
		log.LogAttrs(ctx, level, message, attrs...)
	}
}

// close ends the interval, and says what was left out.
func (t *Throttle) close(log *slog.Logger) {
	t.mu.Lock()
	left, level, message := t.left, t.level, t.message
	t.open, t.left, t.message = false, 0, ""
	t.mu.Unlock()
	if left > 0 {
		log.LogAttrs(context.Background(), level, message, slog.Int("left_out", left))
	}
}

// maxText bounds what is logged of a text that a stranger chose, in bytes.
const maxText = 200

// Cut returns a text that a stranger chose as it is logged: at most 200 bytes of it, and
// where it was longer how long: "/aaaa…(30000 bytes)".
func Cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	end := maxText
	for end > maxText-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…(" + strconv.Itoa(len(s)) + " bytes)"
}
