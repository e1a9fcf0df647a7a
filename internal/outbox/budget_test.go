package outbox

import "testing"

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
			t.Errorf("%d of 1600: HasRoom returned %v", test.bytes, got)
		}
		if got := b.Exceeded(); got != test.exceeded {
			t.Errorf("%d of 1600: Exceeded returned %v", test.bytes, got)
		}
		if got := b.Relieved(); got != test.relieved {
			t.Errorf("%d of 1600: Relieved returned %v", test.bytes, got)
		}
	}
}
