package cluster

import (
	"context"
	"testing"

	"ssegateway/internal/broker"
	"ssegateway/internal/gateway"
)

// taker is a store that takes every record.
type taker struct{ broker.Nodes }

func (taker) Hold(context.Context, uint32, broker.Token, []byte) error { return nil }

// A release that could not be done is replaced by records of the same connection, while
// the lease is in doubt: what waits for the release hears of it once.
func TestReleaseReplaced(t *testing.T) {
	var l ledger
	l.init(func(uint32) (own, certain bool) { return true, false })
	l.use(taker{})
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
