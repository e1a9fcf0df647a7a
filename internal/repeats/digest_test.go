package repeats

import (
	"testing"

	"ssegateway/sse"
)

// Different requests have different digests, also where their parts joined are the same.
func TestDigest(t *testing.T) {
	name, _ := sse.NewName("n")
	id, _ := sse.NewID("n")
	empty, _ := sse.NewID("")
	all := map[Digest]int{}
	for n, write := range []func(d *Digester){
		func(*Digester) {},
		func(d *Digester) { d.String("") },
		func(d *Digester) { d.String("ab") },
		func(d *Digester) { d.String("a"); d.String("b") },
		func(d *Digester) { d.Strings([]string{"a", "b"}) },
		func(d *Digester) { d.Strings([]string{"ab"}) },
		func(d *Digester) { d.Strings([]string{"a"}); d.Strings([]string{"b"}) },
		func(d *Digester) { d.Flag(true) },
		func(d *Digester) { d.Flag(false) },
		func(d *Digester) { d.Event(sse.Event{}) },
		func(d *Digester) { d.Event(sse.Event{Name: name}) },
		func(d *Digester) { d.Event(sse.Event{Data: "n"}) },
		func(d *Digester) { d.Event(sse.Event{ID: id}) },
		func(d *Digester) { d.Event(sse.Event{ID: empty}) },
		func(d *Digester) { d.Event(sse.Event{Retry: sse.RetryMillis(0)}) },
		func(d *Digester) { d.Event(sse.Event{Retry: sse.RetryMillis(1)}) },
	} {
		d := NewDigester("a")
		write(d)
		if before, found := all[d.Sum()]; found {
			t.Errorf("%d is as %d", n, before)
		}
		all[d.Sum()] = n
	}
	if _, found := all[NewDigester("").Sum()]; found {
		t.Error("the kind is not in it")
	}
}
