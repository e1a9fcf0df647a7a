package cluster

import (
	"log/slog"
	"testing"

	"ssegateway/internal/broker"
	"ssegateway/internal/broker/brokertest"
)

// TestNoLineUnderLock: a log that takes its time does not cost the lease.
func TestNoLineUnderLock(t *testing.T) {
	lines := brokertest.NewPatientLog(t)
	var n *Node
	lines.Call = func() { n.Holds() }
	n = New(Config{Name: "a", Lease: lease, Log: slog.New(lines)})
	for i, v := range []value{{Name: "b", State: live}, {Name: "b", State: lost}} {
		n.onKey(broker.Key{Node: 7, Value: v.encode(), Revision: uint64(i) + 1})
	}
	n.onKey(broker.Key{Node: 7, Revision: 3})
	if _, dead := n.Count(); dead != 0 {
		t.Error("the keys were not seen")
	}
}
