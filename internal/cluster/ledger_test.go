package cluster

import (
	"context"
	"slices"
	"testing"

	"ssegateway/internal/broker"
	"ssegateway/internal/gateway"
)

// deaf is a store that does not answer the first records that it gets.
type deaf struct {
	broker.Nodes

	unanswered int
	calls      []string
}

func (d *deaf) Hold(context.Context, uint32, broker.Token, []byte) error {
	d.calls = append(d.calls, "hold")
	if len(d.calls) <= d.unanswered {
		return context.DeadlineExceeded
	}
	return nil
}

func (d *deaf) Release(context.Context, uint32, broker.Token) error {
	d.calls = append(d.calls, "release")
	return nil
}

// A release that could not be done is replaced by records of the same connection, while
// the lease is in doubt: what waits for the release hears of it once.
func TestReleaseReplaced(t *testing.T) {
	var l ledger
	l.init(func(uint32) (own, certain bool) { return true, false })
	l.use(&deaf{})
	var token gateway.Token
	done := 0
	l.release(1, token, func() { done++ })
	for range 3 {
		if err := l.hold(t.Context(), 1, token, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	if done != 1 {
		t.Errorf("told %d times, want once", done)
	}
}

// A record that was not answered may come behind its own removal, unless it is written
// once more, with an answer.
func TestReleaseOfUnanswered(t *testing.T) {
	for unanswered, want := range [][]string{
		{"hold", "release"},
		{"hold", "hold", "release"},
		{"hold", "hold", "hold", "release"},
	} {
		var l ledger
		l.init(func(uint32) (own, certain bool) { return true, true })
		store := &deaf{unanswered: unanswered}
		l.use(store)
		var token gateway.Token
		_ = l.hold(t.Context(), 1, token, []byte("{}"))
		done := 0
		for range 2 { // the second one replaces the first, or has nothing to do
			l.release(1, token, func() { done++ })
		}
		for done == 0 {
			_, op := l.next()
			if op == nil {
				l.again()
				continue
			}
			_ = l.perform(t.Context(), store, token, op)
		}
		if !slices.Equal(store.calls, want) || done != 2 || l.size() != 0 {
			t.Errorf("%d without an answer: %v, done %d times; want %v", unanswered, store.calls, done, want)
		}
	}
}
