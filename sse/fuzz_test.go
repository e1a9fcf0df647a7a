package sse

import (
	"io"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// fragments are what streams and forgeries are made of.
var fragments = []string{
	"\n", "\r", "\r\n", "\n\n", "\r\r", ":", " ", "", "a", "\x00", "\t", "\x7f",
	"data: evil\n", "data", "data:", "event: evil\r", "event", "id: 9\r\n", "id", "id: \x00",
	"retry: 1\n", "retry", "retry: 99999999999999999999", "0", ": heartbeat\n\n",
	"\u0085", "\u2028", "\uFEFF", "é", "😀", "\xff", "\xc3", "\xe2\x82", "\xf0\x9f\x98", "\xed\xa0\x80",
}

// checkRoundTrip writes e between two other events and wants exactly the three
// of them back: nothing forged, nothing lost.
func checkRoundTrip(t interface {
	Helper()
	Errorf(format string, args ...any)
}, e Event,
) {
	t.Helper()
	before := Event{ID: ID{"0", true}, Data: "before"}
	after := Event{Data: "after"}
	wire := before.AppendTo(nil)
	start := len(wire)
	wire = e.AppendTo(wire)
	if n := len(wire) - start; n != e.Len() {
		t.Errorf("%#v: Len = %d, but %d bytes", e, e.Len(), n)
	}
	wire = append(wire, Heartbeat...)
	wire = after.AppendTo(wire)

	e.Data = normalise(e.Data)
	if !e.ID.IsSet() {
		e.ID = before.ID
	}
	after.ID = e.ID
	want := result{Events: []Event{before, e, after}, LastID: e.ID, Retry: e.Retry}
	if diff := cmp.Diff(want, drain(NewDecoder(newChunks(wire, 1))), exported); diff != "" {
		t.Errorf("%q (-want +got):\n%s", wire, diff)
	}
}

// checkDecoder wants the same from a stream in pieces as from a whole one, and
// as the reference.
func checkDecoder(t interface {
	Helper()
	Errorf(format string, args ...any)
}, wire []byte, seed uint64,
) {
	t.Helper()
	want := reference(wire)
	if diff := cmp.Diff(want, drain(NewDecoder(newChunks(wire, seed))), exported); diff != "" {
		t.Errorf("%q in pieces (-reference +got):\n%s", wire, diff)
	}
	limit := int(seed % 40)
	whole := drain(NewDecoderMax(&chunks{data: wire, size: func() int { return len(wire) }}, limit))
	pieces := drain(NewDecoderMax(newChunks(wire, seed), limit))
	if diff := cmp.Diff(whole, pieces, exported); diff != "" {
		t.Errorf("%q with limit %d (-whole +pieces):\n%s", wire, limit, diff)
	}
	for i, e := range whole.Events {
		if i >= len(want.Events) || e != want.Events[i] {
			t.Errorf("%q with limit %d: event %d is %v", wire, limit, i, e)
		}
	}
}

// chunks gives data in pieces of size(), 0 among them, the last with io.EOF.
type chunks struct {
	data []byte
	size func() int
}

func newChunks(data []byte, seed uint64) *chunks {
	rng := rand.New(rand.NewPCG(seed, 0))
	return &chunks{data, func() int { return rng.IntN(8) }}
}

func (c *chunks) Read(p []byte) (int, error) {
	n := copy(p, c.data[:min(c.size(), len(c.data))])
	c.data = c.data[n:]
	if len(c.data) == 0 {
		return n, io.EOF
	}
	return n, nil
}

func FuzzRoundTrip(f *testing.F) {
	for _, s := range fragments {
		f.Add(s, s, true, uint64(0), true, s)
		f.Add("", "", false, uint64(1), false, s+"a"+s)
	}
	f.Fuzz(func(t *testing.T, name, id string, hasID bool, retry uint64, hasRetry bool, data string) {
		e := Event{Data: data}
		e.Name, _ = NewName(name) // a refused one is the zero Name
		if hasID {
			e.ID, _ = NewID(id)
		}
		if hasRetry {
			e.Retry = RetryMillis(retry)
		}
		checkRoundTrip(t, e)
	})
}

func FuzzDecoder(f *testing.F) {
	for i, s := range fragments {
		f.Add([]byte("data: "+s+"\n\n"), uint64(i))
		f.Add([]byte(s+"data: a\r\n"+s+"\r\n"+s), uint64(i))
	}
	f.Fuzz(func(t *testing.T, wire []byte, seed uint64) { checkDecoder(t, wire, seed) })
}

// hostile draws text of fragments and of anything else.
func hostile() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		var s string
		piece := rapid.OneOf(rapid.SampledFrom(fragments), rapid.String())
		for _, p := range rapid.SliceOfN(piece, 0, 12).Draw(t, "pieces") {
			s += p
		}
		return s
	})
}

func TestRoundTripProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := Event{Data: hostile().Draw(t, "data")}
		e.Name, _ = NewName(hostile().Draw(t, "name"))
		e.ID, _ = NewID(hostile().Draw(t, "id"))
		if rapid.Bool().Draw(t, "has retry") {
			e.Retry = RetryMillis(rapid.Uint64().Draw(t, "retry"))
		}
		checkRoundTrip(t, e)
	})
}

func TestDecoderProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wire := hostile().Draw(t, "wire")
		checkDecoder(t, []byte(wire), rapid.Uint64().Draw(t, "seed"))
	})
}
