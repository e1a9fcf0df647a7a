package outbox

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ssegateway/internal/frame"
	"ssegateway/sse"
)

// What a budget says is what the outboxes hold: each item's own 64 bytes, and each frame
// once, for as long as any outbox has it.
func TestBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := NewBudget(1<<40, 1<<40)
		frames := make([]frame.Frame, 5)
		for n := range frames {
			frames[n] = frame.Event(sse.Event{Data: strings.Repeat("x", rapid.IntRange(0, 3000).Draw(t, "size"))})
		}
		shared := make([]frame.Shared, len(frames))
		for n := range shared {
			shared[n].Frame = frames[n]
		}
		boxes := []*Outbox{{budget: b}, {budget: b}, {budget: b}}
		drawItem := func(t *rapid.T) Item {
			n := rapid.IntRange(0, len(frames)-1).Draw(t, "frame")
			switch rapid.SampledFrom([]string{"own", "shared", "shared", "logged"}).Draw(t, "item") {
			case "shared":
				return Item{Frame: frames[n], Shared: &shared[n]}
			case "logged":
				return Item{Frame: frames[n], Shared: &shared[n], Logged: true, Kept: true}
			default:
				return Item{Frame: frames[n]}
			}
		}
		pick := func(t *rapid.T, least int) *Outbox {
			o := boxes[rapid.IntRange(0, len(boxes)-1).Draw(t, "outbox")]
			if len(o.items) < least {
				t.Skip("too few items")
			}
			return o
		}
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) { pick(t, 0).Push(drawItem(t)) },
			"pop":  func(t *rapid.T) { pick(t, 1).Pop() },
			"push a source": func(t *rapid.T) {
				pick(t, 0).PushSource(&tape{[]Item{drawItem(t), drawItem(t)}})
			},
			"refill": func(t *rapid.T) {
				if o := pick(t, 1); o.IsAtSource() {
					o.Refill()
				}
			},
			"drop the oldest": func(t *rapid.T) { pick(t, 1).dropOldest() },
			"drop superseded": func(t *rapid.T) { pick(t, 1).dropSuperseded(frames[0]) },
			"": func(t *rapid.T) {
				var all int64
				held := map[*frame.Shared]bool{}
				for _, o := range boxes {
					var size int64
					for _, i := range o.items {
						size += 64
						all += 64
						if i.logged || i.source != nil {
							continue
						}
						n := int64(i.frame.Size())
						size += n
						if !held[i.frame] {
							all += n
						}
						held[i.frame] = true
					}
					if got := o.Size(); got != size {
						t.Errorf("an outbox of %d bytes says %d", size, got)
					}
				}
				if got := b.Bytes(); got != all {
					t.Errorf("%d bytes are held, the budget says %d", all, got)
				}
			},
		})
		for _, o := range boxes {
			for ok := true; ok; {
				_, ok = o.Pop()
			}
		}
		if got := b.Bytes(); got != 0 {
			t.Errorf("%d bytes of nothing", got)
		}
	})
}

// tape is a source that gives all it has at once.
type tape struct{ items []Item }

func (s *tape) Next() []Item {
	items := s.items
	s.items = nil
	return items
}

func TestBudgetBounds(t *testing.T) {
	for _, test := range []struct {
		bytes              int64
		hasRoom            bool // for 64 bytes
		exceeded, relieved bool
	}{
		{0, true, false, true},
		{1500, true, false, true},
		{1501, true, false, false},
		{1536, true, false, false},
		{1537, false, false, false},
		{1600, false, false, false},
		{1601, false, true, false},
	} {
		b := NewBudget(1600, 1600)
		b.bytes.Store(test.bytes)
		if got := b.HasRoom(Item{}); got != test.hasRoom {
			t.Errorf("%d of 1600: room %v", test.bytes, got)
		}
		if got := b.Exceeded(); got != test.exceeded {
			t.Errorf("%d of 1600: exceeded %v", test.bytes, got)
		}
		if got := b.Relieved(); got != test.relieved {
			t.Errorf("%d of 1600: relieved %v", test.bytes, got)
		}
	}
}
