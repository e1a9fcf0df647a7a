package topics

import (
	"context"
	"errors"
	"sync/atomic"

	"ssegateway/internal/broker"
	"ssegateway/sse"
)

// Delivery is a publication whose delivery somebody waits for.
type Delivery struct {
	topics *Topics
	ref    uint64
	waiter *waiter
}

// waiter waits until every shard has delivered a record.
type waiter struct {
	receivers atomic.Int64
	removed   atomic.Uint32
	shards    atomic.Int32 // shards that have not delivered it yet
	done      chan struct{}
}

// Expect waits for the record with that ref, or with ref 0 for a new one that no other node uses.
// The caller has to call Forget in the end.
func (t *Topics) Expect(ref uint64) *Delivery {
	if ref == 0 {
		ref = t.refs.Add(1)
	}
	w := &waiter{done: make(chan struct{})}
	w.shards.Store(int32(len(t.shards))) //nolint:gosec // a few
	t.waiters.Store(ref, w)
	return &Delivery{t, ref, w}
}

// Ref returns the reference by which the record is recognised.
func (d *Delivery) Ref() uint64 { return d.ref }

// Wait waits until this node has delivered the record, or ctx ends, and returns how many
// connections got it so far.
func (d *Delivery) Wait(ctx context.Context) (receivers int, all bool) {
	select {
	case <-d.waiter.done:
		all = true
	case <-ctx.Done():
	}
	return int(d.waiter.receivers.Load()), all
}

// Forget ends the wait.
func (d *Delivery) Forget() { d.topics.waiters.Delete(d.ref) }

// delivered tells the waiter for a record that a shard has delivered it.
func (t *Topics) delivered(record *broker.Record, receivers int) {
	if record.Ref == 0 {
		return
	}
	if w, ok := t.waiters.Load(record.Ref); ok {
		w := w.(*waiter) //nolint:forcetypeassert // it holds nothing else
		w.removed.Store(record.Removed)
		w.add(receivers)
	}
}

func (w *waiter) add(receivers int) {
	w.receivers.Add(int64(receivers))
	if w.shards.Add(-1) == 0 {
		close(w.done)
	}
}

// Publish appends an event to the log and delivers it to the subscribers that have any of
// the topics; each gets it once. It returns the event's position, and how many subscribers
// of this node it went to.
func (t *Topics) Publish(ctx context.Context, names []string, e sse.Event, store bool) (broker.Position, int, error) {
	d := t.Expect(0)
	defer d.Forget()
	return d.Publish(ctx, broker.Publication{Topics: names, Event: e, Store: store})
}

// Publish publishes as Topics.Publish does, with the ref of the delivery. With the errors of
// [broker.Engine] for a repeat it returns what the engine does. The caller must not use p.Topics afterwards.
func (d *Delivery) Publish(ctx context.Context, p broker.Publication) (broker.Position, int, error) {
	p.Topics, p.Ref = broker.SortTopics(p.Topics), d.ref
	tracer := d.topics.tracer
	appended, delivered := func(error) {}, func(int) {}
	if tracer != nil {
		appended = tracer.Appending(ctx, p.Topics)
	}
	position, err := d.topics.engine.Append(ctx, p)
	if errors.Is(err, broker.ErrRepeated) {
		appended(nil)
		return position, 0, err
	}
	if errors.Is(err, broker.ErrUnread) { // so nobody here has the topic
		appended(nil)
		return position, 0, nil
	}
	appended(err)
	if err != nil {
		return position, 0, err
	}
	if tracer != nil {
		delivered = tracer.Delivering(ctx)
	}
	receivers, _ := d.Wait(ctx) // even if ctx ends, the event is in the log and is being delivered
	delivered(receivers)
	return position, receivers, nil
}

// Remove removes what topics retain, of a key or, if that is empty, all. It returns how many events those were, each
// counted for each of its topics.
func (t *Topics) Remove(ctx context.Context, names []string, key string) (removed int, err error) {
	d := t.Expect(0)
	defer d.Forget()
	if _, _, err = d.Publish(ctx, broker.Publication{Topics: names, Remove: true, Key: key}); err == nil {
		err = ctx.Err() // it may have ended before this node has read how many
	}
	return int(d.waiter.removed.Load()), err
}
