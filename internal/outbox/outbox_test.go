package outbox

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"ssegateway/internal/frame"
	"ssegateway/sse"
)

// itemOverhead is at least the size of a node.
func TestItemOverhead(t *testing.T) {
	if n := unsafe.Sizeof(node{}); n > itemOverhead {
		t.Errorf("a node has %d bytes, %d are counted", n, itemOverhead)
	}
}

func TestOverflowNames(t *testing.T) {
	for _, o := range []Overflow{Disconnect, DropOldest, Latest} {
		if back, ok := ParseOverflow(o.String()); !ok || back != o {
			t.Errorf("%v parses as %v, %v", o, back, ok)
		}
	}
	for _, s := range []string{"", "Latest", "drop_newest"} {
		if o, ok := ParseOverflow(s); ok {
			t.Errorf("%q parses as %v, want it to be invalid", s, o)
		}
	}
}

func TestTell(t *testing.T) {
	done := make(chan error, 1)
	(&Item{Done: done}).Tell(nil)
	if err := <-done; err != nil {
		t.Error(err)
	}
	(&Item{}).Tell(nil) // nobody waits
}

func TestEventNames(t *testing.T) {
	event := func(name, data string) frame.Frame {
		valid, err := sse.NewName(name)
		if err != nil {
			t.Fatal(err)
		}
		return frame.Event(sse.Event{Name: valid, Retry: sse.RetryMillis(1), Data: data})
	}
	id := frame.Block(sse.AppendRetry(nil, sse.RetryMillis(1)))
	for _, test := range []struct {
		frames []frame.Frame
		want   []string
	}{
		{[]frame.Frame{event("a", "x")}, []string{"a"}},
		{[]frame.Frame{event("", "")}, []string{""}},
		{[]frame.Frame{event("a", "event: b\n\ndata: c"), event("", "x"), event("d", "x")}, []string{"a", "", "d"}},
		{[]frame.Frame{id, event("a", "x"), id, event("b", "x"), id}, []string{"a", "b"}},
		{[]frame.Frame{id}, nil},
		{[]frame.Frame{frame.Opening(frame.Head([]byte("HEAD")), event("a", "x"), false)}, []string{""}}, // the frame is not encoded by frame.Event
	} {
		var got []string
		for name := range eventNames(frame.Join(test.frames), false) {
			got = append(got, string(name))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%q has the names %q, want %q", frame.Join(test.frames).Wire(false), got, test.want)
		}
	}
}

func TestNamesInEnvelopes(t *testing.T) {
	event := func(name, data string) frame.Frame {
		valid, _ := sse.NewName(name)
		id, _ := sse.NewID("1")
		return frame.Event(frame.Envelope(sse.Event{Name: valid, ID: id, Data: data}))
	}
	gap, _ := sse.NewName("gap")
	joined := frame.Join([]frame.Frame{
		event("a", "x"), event(`b"\`, "{\n}"), event("", "x"), frame.Event(sse.Event{Name: gap, Data: `{"type":"x"}`}), event("", `{"type":"y`), event("", `{"type":`), event("c", ""),
	})
	var got []string
	for name := range eventNames(joined, true) {
		got = append(got, string(name))
	}
	if want := []string{`"a"`, `"b\"\\"`, "", "gap", "", "", `"c"`}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// Frames are pushed one after the other. At the bound each policy drops the right ones.
func TestDrop(t *testing.T) {
	for _, test := range []struct {
		name     string
		overflow Overflow
		frames   string // names of the events of each; there is room for three frames
		want     string // what is left
	}{
		{"within the bound", DropOldest, "a a a", "a1 a2 a3"},
		{"the oldest", DropOldest, "a b c d e", "c3 d4 e5"},
		{"the one superseded", Latest, "a b a c", "b2 a3 c4"},
		{"by what comes", Latest, "a b c c", "a1 b2 c4"},
		{"the first to be superseded, not the oldest", Latest, "a b b a", "a1 b3 a4"},
		{"the oldest where none is", Latest, "a b c d", "b2 c3 d4"},
		{"joined: all names have to be newer", Latest, "ab b c d", "b2 c3 d4"},
		{"joined: all names are newer", Latest, "c ab b a", "c1 b3 a4"},
		{"joined: by one", Latest, "a b c ab d", "c3 ab4 d5"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := &Outbox{}
			o.Init(NewBudget(1<<20, 3*1200), test.overflow, false, false)
			for i, names := range strings.Fields(test.frames) {
				o.Push(Item{Frame: numbered(names, i+1)})
				for ok := true; ok; {
					_, ok = o.Drop()
				}
			}
			if got := waiting(o); got != test.want {
				t.Errorf("%q is left, want %q", got, test.want)
			}
		})
	}
}

// numbered returns a frame of about 1000 bytes with an event for each name. Each event's data
// begins with the number n.
func numbered(names string, n int) frame.Frame {
	var events []frame.Frame
	for _, name := range names {
		valid, _ := sse.NewName(string(name))
		events = append(events, frame.Event(sse.Event{Name: valid, Data: strconv.Itoa(n) + strings.Repeat("x", 1000/len(names))}))
	}
	return frame.Join(events)
}

// waiting returns the names and number of each frame that waits, and a + for each source.
func waiting(o *Outbox) string {
	var all []string
	for n := o.first; n != nil; n = n.next {
		if n.isSource() {
			all = append(all, "+")
			continue
		}
		text := ""
		for name := range eventNames(n.frame.Frame, false) {
			text += string(name)
		}
		_, data, _ := strings.Cut(string(n.frame.Wire(false)), "data: ")
		all = append(all, text+data[:1])
	}
	return strings.Join(all, " ")
}

// Prune removes the items of a source that it is asked to, except those that are being written.
func TestPrune(t *testing.T) {
	budget := NewBudget(1<<20, 1<<20)
	o := &Outbox{}
	o.Init(budget, DropOldest, false, false)
	var items []Item
	for i, name := range []string{"a", "b", "a", "b"} {
		items = append(items, Item{Frame: numbered(name, i+1)})
	}
	first, second := &tape{batches: [][]Item{items}}, &tape{batches: [][]Item{items}}
	o.PushSource(first)
	o.PushSource(second)
	o.Push(Item{Frame: numbered("a", 5)})
	isA, all := []bool{true, false, true, false}, []bool{true, true, true, true}
	step := func(what, want string, do func()) {
		t.Helper()
		do()
		if got := waiting(o); got != want {
			t.Errorf("%s: %q waits, want %q", what, got, want)
		}
	}
	step("nothing given", "+ + a5", func() { o.Prune(first, all) })
	step("given", "a1 b2 a3 b4 + + a5", func() { o.Refill() })
	step("another source", "a1 b2 a3 b4 + + a5", func() { o.Prune(second, all) })
	step("partly written", "a1 b2 b4 + + a5", func() {
		o.Written(1)
		o.Prune(first, isA)
	})
	step("held by a write", "a1 b2 + + a5", func() {
		o.Hold(2)
		o.Prune(first, all[:3])
	})
	step("written", "+ + a5", func() {
		o.Pop()
		o.Pop()
	})
	step("the first source is finished", "+ a5", o.Refill)
	step("the second source gave its items", "a1 b2 a3 b4 + a5", o.Refill)
	step("all of them are pruned", "+ a5", func() { o.Prune(second, all) })
	step("the second source is finished", "a5", o.Refill)
	step("the event is popped", "", func() { o.Pop() })
	if n := budget.Bytes(); n != 0 || o.Size() != 0 || len(o.sources) > 0 {
		t.Errorf("%d bytes are left, %d in the outbox, %d sources", n, o.Size(), len(o.sources))
	}
}
