package cluster

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"ssegateway/internal/broker"
)

// patient is a log that calls back before it takes a line.
type patient struct {
	slog.Handler

	t    *testing.T
	call func()
}

func (p patient) Enabled(context.Context, slog.Level) bool { return true }

func (p patient) Handle(_ context.Context, r slog.Record) error {
	over := make(chan struct{})
	go func() {
		p.call()
		close(over)
	}()
	select {
	case <-over:
	case <-time.After(5 * time.Second):
		p.t.Errorf("%q is logged under the node's lock", r.Message)
	}
	return nil
}

// TestNoLineUnderLock: a log that takes its time does not cost the lease.
func TestNoLineUnderLock(t *testing.T) {
	lines := patient{slog.DiscardHandler, t, nil}
	var n *Node
	lines.call = func() { n.Holds() }
	n = New(Config{Name: "a", Lease: lease, Log: slog.New(&lines)})
	for i, v := range []value{{Name: "b", State: live}, {Name: "b", State: lost}} {
		n.see(broker.Key{Node: 7, Value: v.encode(), Revision: uint64(i) + 1})
	}
	n.see(broker.Key{Node: 7, Revision: 3})
	if _, dead := n.Count(); dead != 0 {
		t.Error("the keys were not seen")
	}
}
