package gateway

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ssegateway/internal/frame"
	"ssegateway/internal/topics"
	"ssegateway/sse"
)

// What a budget says is what the queues hold: each item's own 64 bytes, and each frame
// once, for as long as any queue has it.
func TestBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &budget{limit: 1 << 40}
		frames := make([]frame.Frame, 5)
		for n := range frames {
			frames[n] = frame.Event(sse.Event{Data: strings.Repeat("x", rapid.IntRange(0, 3000).Draw(t, "size"))})
		}
		shared := make([]frame.Shared, len(frames))
		for n := range shared {
			shared[n].Frame = frames[n]
		}
		queues := []*queue{{budget: b}, {budget: b}, {budget: b}}
		drawItem := func(t *rapid.T) item {
			n := rapid.IntRange(0, len(frames)-1).Draw(t, "frame")
			switch rapid.SampledFrom([]string{"own", "shared", "shared", "logged", "replay"}).Draw(t, "item") {
			case "shared":
				return item{frame: frames[n], shared: &shared[n]}
			case "logged":
				return item{frame: frames[n], shared: &shared[n], logged: true, kept: true}
			case "replay":
				return item{replay: &topics.Replay{}}
			default:
				return item{frame: frames[n]}
			}
		}
		pick := func(t *rapid.T, least int) *queue {
			q := queues[rapid.IntRange(0, len(queues)-1).Draw(t, "queue")]
			if len(q.items) < least {
				t.Skip("too few items")
			}
			return q
		}
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) { pick(t, 0).push(drawItem(t)) },
			"pop":  func(t *rapid.T) { pick(t, 1).pop() },
			"unshift": func(t *rapid.T) {
				pick(t, 0).unshift([]item{drawItem(t), drawItem(t)})
			},
			"drop the oldest": func(t *rapid.T) { pick(t, 1).dropOldest() },
			"drop superseded": func(t *rapid.T) { pick(t, 1).dropSuperseded(frames[0]) },
			"": func(t *rapid.T) {
				var all int64
				held := map[*frame.Shared]bool{}
				for _, q := range queues {
					var size int64
					for _, i := range q.items {
						size += 64
						all += 64
						if i.logged || i.replay != nil {
							continue
						}
						n := int64(i.frame.Size())
						size += n
						if !held[i.frame] {
							all += n
						}
						held[i.frame] = true
					}
					if got := q.size.Load(); got != size {
						t.Errorf("a queue of %d bytes says %d", size, got)
					}
				}
				if got := b.bytes.Load(); got != all {
					t.Errorf("%d bytes are held, the budget says %d", all, got)
				}
			},
		})
		for _, q := range queues {
			for len(q.items) > 0 {
				q.pop()
			}
		}
		if got := b.bytes.Load(); got != 0 {
			t.Errorf("%d bytes of nothing", got)
		}
	})
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
		b := budget{limit: 1600}
		b.bytes.Store(test.bytes)
		if got := b.hasRoom(64); got != test.hasRoom {
			t.Errorf("%d of 1600: room %v", test.bytes, got)
		}
		if got := b.exceeded(); got != test.exceeded {
			t.Errorf("%d of 1600: exceeded %v", test.bytes, got)
		}
		if got := b.relieved(); got != test.relieved {
			t.Errorf("%d of 1600: relieved %v", test.bytes, got)
		}
	}
}
