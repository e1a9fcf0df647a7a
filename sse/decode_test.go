package sse

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// A live stream: what has ended must come out before the next byte, which may
// be long in coming, is asked for.
func TestNextDoesNotReadAhead(t *testing.T) {
	for _, wire := range []string{"data: a\n\n", "data: a\r\r", "data: a\r\n\r", "data: a\r\n\r\n", "\uFEFFdata: a\n\n"} {
		d := NewDecoder(io.MultiReader(strings.NewReader(wire), iotest.ErrReader(errors.New("asked for more"))))
		if e, err := d.Next(); err != nil || e.Data != "a" {
			t.Errorf("%q: %v, %v", wire, e, err)
		}
	}
}

// The LF of a CR LF that arrives after the CR's line was used is not a line.
func TestLateLF(t *testing.T) {
	d := NewDecoder(io.MultiReader(
		strings.NewReader("data: a\r\n\r"), strings.NewReader("\n"),
		strings.NewReader("data: b\r"), strings.NewReader("\ndata: c\r\r"),
	))
	for _, want := range []string{"a", "b\nc"} {
		if e, err := d.Next(); err != nil || e.Data != want {
			t.Errorf("%q, %v; want %q", e.Data, err, want)
		}
	}
}

func TestStateBetweenEvents(t *testing.T) {
	d := NewDecoder(strings.NewReader("id: 1\nretry: 5\ndata: a\n\nid: 2\n\nretry: 6\ndata: b\n\nid: 3\n"))
	check := func(id string, set bool, retry uint64) {
		t.Helper()
		if got := d.LastEventID(); got != (ID{id, set}) || d.Retry().Millis() != retry {
			t.Errorf("last id %+v, retry %d", got, d.Retry().Millis())
		}
	}
	check("", false, 0)
	_, _ = d.Next()
	check("1", true, 5)
	_, _ = d.Next()
	check("2", true, 6)
	_, _ = d.Next()
	check("2", true, 6)
}

func TestReaderErrors(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		r    io.Reader
		want error
	}{
		{iotest.DataErrReader(strings.NewReader("data: a\n\ndata: b")), io.EOF},
		{io.MultiReader(strings.NewReader("data: a\n\ndata: b\n"), iotest.ErrReader(broken)), broken},
		{io.MultiReader(strings.NewReader("data: a\n\n"), idle{}), io.ErrNoProgress},
	} {
		d := NewDecoder(c.r)
		if e, err := d.Next(); err != nil || e.Data != "a" {
			t.Errorf("%v, %v before %v", e, err, c.want)
		}
		for range 2 {
			if _, err := d.Next(); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		}
	}
}

// idle never gives anything.
type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

func TestLimit(t *testing.T) {
	e := Event{Name{"n"}, ID{"7", true}, RetryMillis(1), strings.Repeat("a\n", 5000)}
	wire := e.AppendTo(nil)
	for _, c := range []struct {
		name  string
		wire  string
		limit int
		want  error
	}{
		{"exact", strings.Repeat(string(wire), 3), e.Len(), io.EOF},
		{"one over", string(wire), e.Len() - 1, ErrTooLong},
		{"line", "data: 1234", 10, ErrTooLong},
		{"line within", "data: 123", 10, io.EOF},
		{"comments do not add up", strings.Repeat(": heartbeat\n", 99) + "data: a\n\n", 12, io.EOF},
		{"long comment", ": heartbeat", 11, ErrTooLong},
		{"CR LF counts as one", "data: a\r\n\r\n", 9, io.EOF},
		{"other fields add up", strings.Repeat("foo\n", 99), 99, ErrTooLong},
	} {
		d := NewDecoderMax(strings.NewReader(c.wire), c.limit)
		var err error
		for err == nil {
			_, err = d.Next()
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	for _, text := range []string{"x", "data: x\n", "data\n", "data: \xff\xff\xff\xff\n", "id: 7\r", ":"} {
		d := NewDecoderMax(&loop{data: []byte(text)}, 64<<10)
		if _, err := d.Next(); !errors.Is(err, ErrTooLong) {
			t.Errorf("%q for ever: %v", text, err)
		}
		if n := cap(d.buf) + cap(d.data) + cap(d.name) + len(d.id.s); n > 8*d.max {
			t.Errorf("%q for ever: %d bytes held at a limit of %d", text, n, d.max)
		}
	}
}

// Names repeat and data is one string: no more is allocated for an event.
func TestNextAllocations(t *testing.T) {
	wire := Event{Name: Name{"tick"}, ID: ID{"7", true}, Data: "a\nb"}.AppendTo(nil)
	d := NewDecoder(&loop{data: wire})
	_, _ = d.Next()
	if n := testing.AllocsPerRun(1000, func() { _, _ = d.Next() }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, c := range benchEvents {
		b.Run(c.name, func(b *testing.B) {
			wire := c.event.AppendTo(nil)
			d := NewDecoder(&loop{data: wire})
			b.SetBytes(int64(len(wire)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Next(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// loop gives its data for ever.
type loop struct {
	data []byte
	at   int
}

func (l *loop) Read(p []byte) (int, error) {
	n := copy(p, l.data[l.at:])
	l.at = (l.at + n) % len(l.data)
	return n, nil
}

// NextBlock also gives out what sets something without an event, and what that sets.
func TestNextBlock(t *testing.T) {
	d := NewDecoder(strings.NewReader("retry: 5\n\nid: 7\n\n: c\n\nevent: n\n\ndata: a\n\nid\nretry: 6\n\nretry: x\n\ndata\nid: 8\n\nid: \x00\n\n"))
	seven, eight := ID{"7", true}, ID{"8", true}
	for i, want := range []struct {
		e       Event
		isEvent bool
	}{
		{Event{Retry: RetryMillis(5)}, false},
		{Event{ID: seven}, false},
		{Event{ID: seven, Data: "a"}, true},
		{Event{ID: ID{"", true}, Retry: RetryMillis(6)}, false},
		{Event{ID: eight}, true},
	} {
		if e, isEvent, err := d.NextBlock(); err != nil || e != want.e || isEvent != want.isEvent {
			t.Errorf("block %d: %+v, event %v, %v; want %+v", i, e, isEvent, err, want.e)
		}
	}
	if e, isEvent, err := d.NextBlock(); !errors.Is(err, io.EOF) || isEvent {
		t.Errorf("at the end %+v, event %v, %v", e, isEvent, err)
	}
}
