package outbox

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ssegateway/internal/frame"
	"ssegateway/sse"
)

// TestOutboxes runs random operations on a few outboxes with one budget. It compares each with
// a naive model: a slice that is searched from its beginning for every answer.
func TestOutboxes(t *testing.T) { rapid.Check(t, live) }

// FuzzOutboxes does the same, guided by the coverage that the fuzzer sees.
func FuzzOutboxes(f *testing.F) { f.Fuzz(rapid.MakeFuzz(live)) }

func live(t *rapid.T) {
	l := newLife(t)
	t.Repeat(map[string]func(*rapid.T){
		"push":          l.push,
		"push again":    l.push, // more often than the rest
		"push the rest": l.pushRest,
		"push a source": l.pushSource,
		"refill":        l.refill,
		"prune":         l.prune,
		"write":         l.write,
		"write apart":   l.writeApart,
		"pop":           l.pop,
		"":              l.check,
	})
	for i := range l.boxes {
		for len(l.naive[i].items) > 0 {
			l.popFrom(t, i)
		}
	}
	l.check(t)
	if n := l.budget.Bytes(); n != 0 {
		t.Errorf("the budget counts %d bytes of empty outboxes", n)
	}
}

// naive is the model of an outbox.
type naive struct {
	overflow Overflow
	chunked  bool
	items    []*entry
	offset   int      // bytes of items[0] that are written
	drops    []*entry // superseded entries, in the order in which they were superseded
}

// entry is an item, or a source.
type entry struct {
	frame  *frame.Shared // nil for a source
	own    bool          // in this outbox only
	source *tape
	names  []string // of its events
	kept   bool
	from   *tape // the source that gave it
	going  bool  // partly written, or in a write that is under way
}

func (e *entry) droppable() bool { return e.source == nil && !e.kept && !e.going && len(e.names) > 0 }

func (e *entry) cost() int64 {
	if e.source != nil {
		return 64
	}
	return 64 + int64(e.frame.Size())
}

// superseded reports whether each of an entry's events has a newer one of its name after it.
func (n *naive) superseded(e *entry) bool {
	behind := map[string]bool{}
	for _, later := range n.items[slices.Index(n.items, e)+1:] {
		if later.droppable() {
			for _, name := range later.names {
				behind[name] = true
			}
		}
	}
	return !slices.ContainsFunc(e.names, func(name string) bool { return !behind[name] })
}

func (n *naive) size() (size, waiting int64) {
	for _, e := range n.items {
		size += e.cost()
		if e.source == nil && e.from == nil {
			waiting += e.cost()
		}
	}
	if n.offset > 0 && n.items[0].from == nil {
		waiting -= int64(n.offset)
	}
	return size, waiting
}

func (n *naive) append(e *entry) {
	n.items = append(n.items, e)
	if n.overflow != Latest || !e.droppable() {
		return
	}
	// A frame with several names supersedes others in the order of its names.
	all := e.names
	for i := range all {
		e.names = all[:i+1]
		for _, before := range n.items {
			if before != e && before.droppable() && !slices.Contains(n.drops, before) && n.superseded(before) {
				n.drops = append(n.drops, before)
			}
		}
	}
	e.names = all
}

// drop returns the entry that has to be dropped next; nil if there is none.
func (n *naive) drop(bound int64) *entry {
	if _, waiting := n.size(); n.overflow == Disconnect || waiting <= bound {
		return nil
	}
	n.drops = slices.DeleteFunc(n.drops, func(e *entry) bool { return !slices.Contains(n.items, e) || e.going })
	if len(n.drops) > 0 {
		return n.drops[0]
	}
	for _, e := range n.items[:len(n.items)-1] {
		if e.droppable() {
			return e
		}
	}
	return nil
}

// tape is a source that gives its items a few at a time.
type tape struct{ batches [][]Item }

func (s *tape) Next(int) (items []Item) {
	if len(s.batches) > 0 {
		items, s.batches = s.batches[0], s.batches[1:]
	}
	return items
}

type life struct {
	budget *Budget
	bound  int64
	boxes  []*Outbox
	naive  []*naive
	shared []*entry
}

func newLife(t *rapid.T) *life {
	l := &life{bound: rapid.Int64Range(100, 2000).Draw(t, "bound")}
	l.budget = NewBudget(1<<40, l.bound)
	for range 3 {
		n := &naive{
			overflow: rapid.SampledFrom([]Overflow{Disconnect, DropOldest, Latest, Latest}).Draw(t, "overflow"),
			chunked:  rapid.Bool().Draw(t, "chunked"),
		}
		o := &Outbox{}
		o.Init(l.budget, n.overflow, n.chunked, false)
		l.boxes, l.naive = append(l.boxes, o), append(l.naive, n)
	}
	for range 4 {
		l.shared = append(l.shared, drawFrame(t))
	}
	return l
}

// drawFrame draws a frame of a few events, or of none.
func drawFrame(t *rapid.T) *entry {
	e := &entry{}
	var frames []frame.Frame
	for range rapid.IntRange(1, 3).Draw(t, "blocks") {
		text := rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "name")
		name, _ := sse.NewName(text)
		switch rapid.IntRange(0, 7).Draw(t, "block") {
		case 0:
			frames = append(frames, frame.Block(sse.AppendRetry(nil, sse.RetryMillis(1))))
			continue
		case 1:
			frames = append(frames, frame.Event(sse.Event{Name: name, Data: "\ndata\n\n" + strings.Repeat("x", 300)}))
		default:
			frames = append(frames, frame.Event(sse.Event{Name: name, Retry: sse.RetryMillis(1), Data: "x"}))
		}
		e.names = append(e.names, text)
	}
	e.frame = &frame.Shared{Frame: frame.Join(frames)}
	return e
}

// drawItem draws an item, and returns the model's entry for it too.
func (l *life) drawItem(t *rapid.T) (Item, *entry) {
	e := new(entry)
	i := Item{}
	if rapid.Bool().Draw(t, "shared") {
		*e = *rapid.SampledFrom(l.shared).Draw(t, "frame")
		i.Shared = e.frame
	} else {
		e = drawFrame(t)
		e.own = true
	}
	i.Frame = e.frame.Frame
	i.Kept = rapid.IntRange(0, 5).Draw(t, "kept") == 0
	e.kept = i.Kept
	return i, e
}

// pick draws an outbox for which ok holds.
func (l *life) pick(t *rapid.T, ok func(n *naive) bool) int {
	i := rapid.IntRange(0, len(l.boxes)-1).Draw(t, "outbox")
	if !ok(l.naive[i]) {
		t.Skip("not this one")
	}
	return i
}

func (l *life) push(t *rapid.T) {
	i := l.pick(t, func(*naive) bool { return true })
	o, n := l.boxes[i], l.naive[i]
	item, e := l.drawItem(t)
	_, waiting := n.size()
	if takes := waiting == 0 || waiting+e.cost() <= l.bound || n.overflow != Disconnect; o.Takes(item) != takes {
		t.Fatalf("Takes returned %v, with %d bytes of %d waiting", !takes, waiting, l.bound)
	}
	o.Push(item)
	n.append(e)
	for {
		want := n.drop(l.bound)
		got, ok := o.Drop()
		if ok != (want != nil) {
			t.Fatalf("Drop returned %v, want %v", ok, want != nil)
		}
		if !ok {
			return
		}
		same(t, "dropped", got, want)
		n.items = slices.DeleteFunc(n.items, func(e *entry) bool { return e == want })
	}
}

func same(t *rapid.T, what string, got Item, want *entry) {
	if !slices.Equal(got.Frame.Wire(true), want.frame.Wire(true)) || !want.own && got.Shared != want.frame {
		t.Fatalf("%s: %q instead of %q", what, got.Frame.Wire(false), want.frame.Wire(false))
	}
}

func (l *life) pushRest(t *rapid.T) {
	i := l.pick(t, func(n *naive) bool { return len(n.items) == 0 })
	item, e := l.drawItem(t)
	n := l.naive[i]
	n.offset = rapid.IntRange(0, len(item.Frame.Wire(n.chunked))-1).Draw(t, "written")
	l.boxes[i].PushRest(item, n.offset)
	n.append(e)
	e.going = n.offset > 0
}

func (l *life) pushSource(t *rapid.T) {
	i := l.pick(t, func(*naive) bool { return true })
	s := &tape{}
	for range rapid.IntRange(0, 3).Draw(t, "batches") {
		var batch []Item
		for range rapid.IntRange(1, 3).Draw(t, "records") {
			e := rapid.SampledFrom(l.shared).Draw(t, "record")
			batch = append(batch, Item{Frame: e.frame.Frame, Shared: e.frame})
		}
		s.batches = append(s.batches, batch)
	}
	l.boxes[i].PushSource(s)
	l.naive[i].append(&entry{source: s})
}

func (l *life) refill(t *rapid.T) {
	i := l.pick(t, func(n *naive) bool { return len(n.items) > 0 && n.items[0].source != nil })
	n := l.naive[i]
	if s := n.items[0].source; len(s.batches) == 0 {
		n.items = n.items[1:]
	} else {
		var all []*entry
		for _, item := range s.batches[0] {
			k := slices.IndexFunc(l.shared, func(e *entry) bool { return e.frame == item.Shared })
			all = append(all, &entry{frame: item.Shared, names: l.shared[k].names, kept: true, from: s})
		}
		n.items = append(all, n.items...)
	}
	l.boxes[i].Refill()
}

// prune removes some items that a source gave.
func (l *life) prune(t *rapid.T) {
	i := l.pick(t, func(*naive) bool { return true })
	n := l.naive[i]
	var sources []*tape
	for _, e := range n.items {
		if e.source != nil {
			sources = append(sources, e.source)
		}
	}
	if len(sources) == 0 {
		t.Skip("no source")
	}
	s := rapid.SampledFrom(sources).Draw(t, "source")
	given := 0
	for _, e := range n.items {
		if e.from == s {
			given++
		}
	}
	drop := rapid.SliceOfN(rapid.Bool(), given, given+2).Draw(t, "drop") // longer, as if the first were already written
	l.boxes[i].Prune(s, drop)
	drop = drop[len(drop)-given:]
	n.items = slices.DeleteFunc(n.items, func(e *entry) bool {
		if e.from != s {
			return false
		}
		unwanted := drop[0]
		drop = drop[1:]
		return unwanted && !e.going
	})
}

func writable(n *naive) bool { return len(n.items) > 0 && n.items[0].source == nil }

// write writes a part of a batch, as much as the client takes.
func (l *life) write(t *rapid.T) {
	i := l.pick(t, writable)
	b := l.batch(t, i)
	l.written(t, i, rapid.IntRange(0, len(b)).Draw(t, "taken"))
}

// writeApart writes a batch as Pump does, without the lock: items may be pushed meanwhile.
func (l *life) writeApart(t *rapid.T) {
	i := l.pick(t, writable)
	o, n := l.boxes[i], l.naive[i]
	b, items := o.Batch(make([]byte, 0, 400))
	o.Hold(items)
	for _, e := range n.items[:items] {
		e.going = true
	}
	total := len(b)
	for range rapid.IntRange(0, 5).Draw(t, "meanwhile") {
		l.push(t)
	}
	l.written(t, i, total)
}

// batch returns an outbox's next batch, after it has compared it with the model.
func (l *life) batch(t *rapid.T, i int) []byte {
	const room = 400
	n := l.naive[i]
	b, items := l.boxes[i].Batch(make([]byte, 0, room))
	var all []byte
	count := 0
	for _, e := range n.items {
		if e.source != nil {
			break
		}
		all = append(all, e.frame.Wire(n.chunked)...)
		count++
	}
	all = all[n.offset:]
	if len(b) > room || !bytes.Equal(b, all[:min(len(b), len(all))]) || items < 1 || items > count || len(b) == 0 && len(all) > 0 {
		t.Fatalf("the batch has %d items, %q, of the %d that wait, %q", items, b, count, all)
	}
	return b
}

func (l *life) written(t *rapid.T, i, total int) {
	o, n := l.boxes[i], l.naive[i]
	for {
		item, rest, whole := o.Written(total)
		if len(n.items) == 0 || n.items[0].source != nil {
			if whole {
				t.Fatal("Written returned an item, but none is left")
			}
			return
		}
		left := len(n.items[0].frame.Wire(n.chunked)) - n.offset
		if whole != (total >= left) {
			t.Fatalf("Written reports a whole item: %v, with %d bytes of %d", whole, total, left)
		}
		if !whole {
			n.offset += total
			n.items[0].going = n.items[0].going || total > 0
			return
		}
		same(t, "written", item, n.items[0])
		if total -= left; rest != total {
			t.Fatalf("%d bytes are left instead of %d", rest, total)
		}
		n.items, n.offset = n.items[1:], 0
	}
}

func (l *life) pop(t *rapid.T) {
	l.popFrom(t, l.pick(t, func(n *naive) bool { return len(n.items) > 0 }))
}

func (l *life) popFrom(t *rapid.T, i int) {
	n := l.naive[i]
	item, ok := l.boxes[i].Pop()
	if !ok {
		t.Fatal("nothing to pop")
	}
	if e := n.items[0]; e.source == nil {
		same(t, "popped", item, e)
		if item.Kept != e.kept && !e.going {
			t.Fatalf("the popped item has Kept %v, want %v", item.Kept, e.kept)
		}
	}
	n.items, n.offset = n.items[1:], 0
}

// check compares the outboxes and the budget with the model.
func (l *life) check(t *rapid.T) {
	var all int64
	held := map[*frame.Shared]bool{}
	for i, n := range l.naive {
		o := l.boxes[i]
		size, waiting := n.size()
		if o.Size() != size || o.waiting() != waiting || o.IsEmpty() != (len(n.items) == 0) {
			t.Fatalf("outbox %d has a size of %d instead of %d, or %d bytes wait instead of %d", i, o.Size(), size, o.waiting(), waiting)
		}
		for _, e := range n.items {
			all += 64
			if cost := e.cost() - 64; cost > 0 && !held[e.frame] {
				held[e.frame] = true
				all += cost
			}
		}
		names := map[string]bool{}
		for _, e := range n.items {
			for _, name := range e.names {
				names[name] = names[name] || n.overflow == Latest && e.droppable()
			}
		}
		for name := range names {
			if !names[name] {
				delete(names, name)
			}
		}
		if len(o.names.newest) != len(names) {
			t.Fatalf("outbox %d has %d names in its index instead of %d", i, len(o.names.newest), len(names))
		}
	}
	if got := l.budget.Bytes(); got != all {
		t.Fatalf("%d bytes are held, the budget says %d", all, got)
	}
}
