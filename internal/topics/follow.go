package topics

import (
	"context"
	"time"

	"ssegateway/internal/broker"
)

const (
	pruneInterval = 30 * time.Second
	endPatience   = time.Second // to ask for the log's end where a wrong answer does no harm
)

// Follow sees to it that the log has everything of some topics, and has come to where a client is. It is called before Welcome
// and Change, and release behind them. id is what the client has, "" if it has nothing.
func (t *Topics) Follow(ctx context.Context, names []string, id string) (release func(), err error) {
	if t.selects == nil || len(names) == 0 {
		return func() {}, nil
	}
	upto := uint64(0)
	if had, ok := broker.ParsePosition(id); ok && had.Epoch == t.engine.Log().Epoch() {
		upto = had.Offset
	}
	return t.selects.Follow(ctx, names, upto)
}

// Position returns the end of the log now. If that cannot be known, it returns how far this node has read.
func (t *Topics) Position(ctx context.Context) broker.Position {
	if t.selects != nil {
		ctx, cancel := context.WithTimeout(ctx, endPatience)
		defer cancel()
		if end, err := t.selects.End(ctx); err == nil {
			return end
		}
	}
	return t.engine.Log().Position()
}

// IsAhead reports whether an id is a position of the log that has not been delivered yet. A client
// with that position would miss what is published until then, without a gap.
func (t *Topics) IsAhead(ctx context.Context, id string) bool {
	p, ok := broker.ParsePosition(id)
	if !ok || !t.isAhead(p) {
		return false
	}
	if t.selects == nil || p.Epoch != t.engine.Log().Epoch() {
		return true
	}
	// It may be the position of an event that does not come to this node.
	ctx, cancel := context.WithTimeout(ctx, endPatience)
	defer cancel()
	t.pass(ctx)
	return t.isAhead(p)
}

// MustAsk reports whether IsAhead would have to wait for NATS.
func (t *Topics) MustAsk(id string) bool {
	p, ok := broker.ParsePosition(id)
	return ok && t.selects != nil && t.isAhead(p)
}

// pass waits until this node has delivered what was added to the log before. It reports whether it has.
func (t *Topics) pass(ctx context.Context) bool {
	if _, err := t.selects.End(ctx); err != nil {
		return false
	}
	d := t.Expect(0)
	defer d.Forget()
	t.engine.Log().Ping(d.ref)
	_, all := d.Wait(ctx)
	return all
}

// Count is like Wait, for a record of another node. Where the log has not the record's topics it had no receivers.
func (d *Delivery) Count(ctx context.Context) (receivers int, all bool) {
	if s := d.topics.selects; s == nil || !s.Selects() {
		return d.Wait(ctx)
	}
	all = d.topics.pass(ctx)
	return int(d.waiter.receivers.Load()), all
}
