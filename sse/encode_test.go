package sse

import (
	"math"
	"strings"
	"testing"
)

func TestBlocksWithoutAnEvent(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{string(AppendRetry([]byte("x"), RetryMillis(3000))), "xretry: 3000\n\n"},
		{string(AppendRetry(nil, RetryMillis(0))), "retry: 0\n\n"},
		{string(AppendRetry([]byte("x"), Retry{})), "x"},
		{string(AppendID([]byte("x"), ID{"7", true})), "xid: 7\n\n"},
		{string(AppendID(nil, ID{"", true})), "id: \n\n"},
		{string(AppendID([]byte("x"), ID{})), "x"},
		{string(AppendSettings([]byte("x"), RetryMillis(5), ID{"7", true})), "xretry: 5\nid: 7\n\n"},
		{string(AppendSettings([]byte("x"), Retry{}, ID{"7", true})), "xid: 7\n\n"},
		{string(AppendSettings([]byte("x"), RetryMillis(5), ID{})), "xretry: 5\n\n"},
		{string(AppendSettings([]byte("x"), Retry{}, ID{})), "x"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	wire := AppendRetry(AppendID([]byte(Heartbeat), ID{"7", true}), RetryMillis(3))
	r := decodeAll(t, wire)
	if len(r.Events) != 0 || r.LastID.String() != "7" || r.Retry.Millis() != 3 {
		t.Errorf("%q gave %+v", wire, r)
	}
}

func TestLenOfRetry(t *testing.T) {
	for _, ms := range []uint64{0, 9, 10, 99, 100, 999999, 1000000, math.MaxUint64} {
		e := Event{Retry: RetryMillis(ms)}
		if got := len(e.AppendTo(nil)); got != e.Len() {
			t.Errorf("retry %d: Len = %d, but %d bytes", ms, e.Len(), got)
		}
	}
}

func TestAppendToAllocatesNothing(t *testing.T) {
	e := Event{Name{"n"}, ID{"7", true}, RetryMillis(3000), strings.Repeat("a\r\nb\nc\rd", 100)}
	buf := make([]byte, 0, e.Len())
	if n := testing.AllocsPerRun(100, func() { buf = e.AppendTo(buf[:0]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if len(buf) != cap(buf) {
		t.Errorf("%d bytes, capacity %d", len(buf), cap(buf))
	}
}

// benchEvents are the shapes that matter: a small event, a text of many lines,
// and one large line.
var benchEvents = []struct {
	name  string
	event Event
}{
	{"256B", Event{Name{"update"}, ID{"1-42", true}, Retry{}, strings.Repeat("x", 256)}},
	{"lines", Event{Data: strings.Repeat("some words in a line\n", 200)}},
	{"CRs", Event{Data: strings.Repeat("\r", 64<<10)}},
	{"1MiB", Event{Data: strings.Repeat("x", 1<<20)}},
}

func BenchmarkAppend(b *testing.B) {
	for _, c := range benchEvents {
		b.Run(c.name, func(b *testing.B) {
			buf := make([]byte, 0, c.event.Len())
			b.SetBytes(int64(c.event.Len()))
			b.ReportAllocs()
			for b.Loop() {
				buf = c.event.AppendTo(buf[:0])
			}
		})
	}
}

func BenchmarkLen(b *testing.B) {
	for _, c := range benchEvents {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(c.event.Len()))
			for b.Loop() {
				c.event.Len()
			}
		})
	}
}
