package roundtrips

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"ssegateway/e2e/harness"
	"ssegateway/sse"
)

var (
	events = flag.Int("events", 200_000, "how many events are written and read again")
	seed   = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the random choices")
)

// fragments are what forgeries are made of.
var fragments = []string{
	"\n", "\r", "\r\n", "\n\n", "\r\r", ":", " ", "a", "\x00", "\t", "\x7f", "data: evil\n", "data", "data:", "event: evil\r",
	"id: 9\r\n", "id", "retry: 1\n", "retry", "99999999999999999999", ": heartbeat\n\n", "\u0085", "\u2028", "\uFEFF", "é", "😀",
}

// draw returns text of fragments and of any characters.
func draw(rng *rand.Rand) string {
	var s strings.Builder
	for range rng.IntN(6) {
		if rng.IntN(4) == 0 {
			s.WriteRune(rune(rng.IntN(0xd800)))
		} else {
			s.WriteString(fragments[rng.IntN(len(fragments))])
		}
	}
	return s.String()
}

func drawEvent(rng *rand.Rand) (e sse.Event) {
	e.Name, _ = sse.NewName(draw(rng)) // a refused one is the zero Name
	e.ID, _ = sse.NewID(draw(rng))
	if rng.IntN(3) == 0 {
		e.Retry = sse.RetryMillis(rng.Uint64())
	}
	e.Data = draw(rng)
	return e
}

// inPieces gives bytes in pieces of 1 to 64.
type inPieces struct {
	*bytes.Reader
	rng *rand.Rand
}

func (p inPieces) Read(b []byte) (int, error) {
	return p.Reader.Read(b[:min(len(b), 1+p.rng.IntN(64))])
}

// TestRoundTrips: whatever the names, ids and data, what is read is what was written: no event
// and no field more, less or other.
func TestRoundTrips(t *testing.T) {
	t.Logf("seed %d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 0))
	lines := strings.NewReplacer("\r\n", "\n", "\r", "\n")
	var (
		wire    []byte
		batch   []sse.Event
		named   int
		written int
	)
	for left := *events; left > 0; left -= len(batch) {
		wire, batch = wire[:0], batch[:0]
		var last sse.ID
		for range min(left, 1000) {
			e := drawEvent(rng)
			wire = e.AppendTo(wire)
			e.Data = lines.Replace(e.Data)
			if e.ID.IsSet() {
				last = e.ID
			}
			if e.ID = last; e.Name.String() != "" {
				named++
			}
			batch = append(batch, e)
		}
		written += len(wire)
		d := sse.NewDecoder(inPieces{bytes.NewReader(wire), rng})
		for i, want := range batch {
			if got, err := d.Next(); err != nil || got != want {
				t.Fatalf("event %d is %+v, read as %+v, %v", i, want, got, err)
			}
		}
		if got, err := d.Next(); !errors.Is(err, io.EOF) || d.Unfinished() {
			t.Fatalf("behind the last one is %+v, %v", got, err)
		}
	}
	if named < *events/10 {
		t.Errorf("%d of %d events have names", named, *events)
	}
	harness.Figure(t, "%d events, %d MiB, written and read in pieces: 0 forged events or fields", *events, written>>20)
}
