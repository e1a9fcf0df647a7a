package nats

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/internal/broker"
)

// rounds takes up fresh topics until ctx ends.
func (e *session) rounds(ctx context.Context, f *feed) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-e.own.wake:
		}
		if err := e.round(ctx, f); err != nil {
			return err
		}
	}
}

// round subscribes to the fresh topics, waits for a mark, and reads the past of the topics up to it. What comes
// of them behind the mark is taken as it comes.
func (e *session) round(ctx context.Context, f *feed) error {
	own := e.own
	own.mu.Lock()
	r := own.next
	fresh := own.fresh[:min(len(own.fresh), pastBatch)]
	own.fresh = own.fresh[len(fresh):]
	if own.next = nil; len(own.fresh) > 0 {
		own.stir()
	}
	var check []*followed
	if own.check {
		check, own.check = own.someLocked(checkBatch), false
	}
	own.mu.Unlock()
	if r == nil && len(fresh) == 0 && len(check) == 0 {
		return nil
	}
	at, err := e.follow(ctx, f, fresh)
	if r != nil {
		r.at, r.err = at, err
		close(r.over)
	}
	if err == nil && len(check) > 0 {
		err = e.checkLast(ctx, f, check, at.Offset)
	}
	return err
}

// mayMiss has the next round check that nothing is missing.
func (i *interest) mayMiss() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.check = true
	i.stir()
}

// someLocked returns some of the whole topics, in turn.
func (i *interest) someLocked(most int) (some []*followed) {
	digests := slices.Sorted(maps.Keys(i.topics))
	begin, _ := slices.BinarySearch(digests, i.asked+"\x00")
	for _, digest := range append(digests[begin:], digests[:begin]...) {
		if t := i.topics[digest]; t.whole && len(some) < most {
			some, i.asked = append(some, t), digest
		}
	}
	return some
}

// checkLast checks that the last messages that topics had up to a mark have come. Between the servers of a cluster a message can be lost
// without an end of this node's connection. Where another of its topic follows, that shows the loss earlier.
func (e *session) checkLast(ctx context.Context, f *feed, topics []*followed, upto uint64) error {
	subjects := make([]string, len(topics))
	bySubject := map[string]*followed{}
	for n, t := range topics {
		subjects[n] = e.eventSubject(t.digest)
		bySubject[subjects[n]] = t
	}
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	from, last, err := e.lastMessages(ctx, subjects)
	if err != nil {
		return err
	}
	defer from.Stop()
	for range last {
		m, err := from.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if at := meta.Sequence.Stream; at <= upto && at > e.own.hasCome(f, bySubject[m.Subject()]) {
			return e.hole(fmt.Errorf("%w: %d", errHole, at))
		}
	}
	return nil
}

// hasCome returns up to which sequence all messages of a topic have come.
func (i *interest) hasCome(f *feed, t *followed) uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	if t.gone {
		return math.MaxUint64
	}
	return max(f.begin, t.from, t.last)
}

func (e *session) follow(ctx context.Context, f *feed, fresh []*followed) (at broker.Position, err error) {
	m, err := e.reach(ctx, f, fresh)
	if err != nil {
		return at, err
	}
	at = broker.Position{Epoch: e.log.Epoch(), Offset: m.sequence}
	if len(fresh) == 0 {
		return at, nil
	}
	past, begin, err := e.past(ctx, fresh, m)
	if err != nil {
		return at, fmt.Errorf("what topics had before: %w", err)
	}
	e.log.Insert(past, begin)
	e.own.mu.Lock()
	defer e.own.mu.Unlock()
	for _, t := range fresh {
		t.whole = true
		if t.gone {
			t.unsubscribe()
		}
	}
	return at, nil
}

// reach adds a mark, and waits until it comes. Fresh topics are subscribed to before.
func (e *session) reach(ctx context.Context, f *feed, fresh []*followed) (*mark, error) {
	own := e.own
	own.mu.Lock()
	for _, t := range fresh {
		if t.gone {
			continue
		}
		if err := e.subscribeLocked(f, t); err != nil {
			own.mu.Unlock()
			return nil, err
		}
	}
	own.mu.Unlock()
	m, err := e.addMark(ctx, func(m *mark) {
		own.mu.Lock()
		defer own.mu.Unlock()
		m.topics, f.mark = fresh, m
	})
	if err != nil {
		return nil, err
	}
	select {
	case <-m.came:
		e.marked.Store(time.Now().UnixNano())
		return m, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(appendTimeout):
		return nil, errMarkLost
	}
}

// past reads what topics had before a mark. begin is the sequence behind which that is everything.
func (e *session) past(ctx context.Context, topics []*followed, m *mark) (past []broker.Past, begin uint64, err error) {
	subjects := []string{m.subject}
	for _, t := range topics {
		subjects = append(subjects, e.eventSubject(t.digest))
	}
	from, err := e.messages(ctx, e.handle, e.log.Stats().Trimmed+1, subjects...)
	if err != nil {
		return nil, 0, err
	}
	defer from.Stop()
	for {
		message, err := within(ctx, from, appendTimeout)
		if err != nil {
			return nil, 0, err
		}
		meta, err := message.Metadata()
		if err != nil {
			return nil, 0, err
		}
		if meta.Sequence.Stream >= m.sequence {
			break
		}
		p, _, err := decode(message.Data())
		if err != nil {
			e.passOver(meta.Sequence.Stream, fmt.Errorf("%w: %w", errBadMessage, err))
			continue
		}
		if p.Store {
			past = append(past, broker.Past{Publication: p, Offset: meta.Sequence.Stream, At: e.clock.local(meta.Timestamp, time.Now())})
		}
	}
	stream, err := e.current(ctx) // now, since messages may have been dropped while they were read
	if err != nil {
		return nil, 0, err
	}
	return past, max(stream.CachedInfo().State.FirstSeq, 1) - 1, nil
}

// watchOwn checks that messages are published once more, and whether a node of a version before is gone, for which this one reads everything.
//
// It has this node mark the log, if the stream is far ahead of what it has read: so that it does not have to read
// all of that when it has to catch up.
func (e *session) watchOwn(ctx context.Context, stream jetstream.Stream) error {
	if e.own.isAll() {
		if err := e.choose(ctx, stream); err != nil || e.own.isAll() {
			return err
		}
		return errNotAgain // from now on they are
	}
	if !e.publishesAgain(stream.CachedInfo().Config) {
		return errNotAgain
	}
	if stream.CachedInfo().Cluster != nil {
		e.own.mayMiss()
	}
	ahead := stream.CachedInfo().State.LastSeq - min(e.seen.Load(), stream.CachedInfo().State.LastSeq)
	last := time.Unix(0, e.marked.Load())
	if ahead > markEvery || ahead > 0 && time.Since(last) > e.maxAge/markAge {
		e.own.ask(nil, true)
	}
	return nil
}
