package connections

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"ssegateway/internal/gateway"
	"ssegateway/internal/repeats"
)

// Repeats of sends are told by the node that holds the connection, or held it. Repeats of publishes
// are told by the log, since they may come to any node. What a node remembers of publishes is only
// the whole first answer.
const (
	sentBytes      = 16 << 20 // bound of the memory of sends
	publishedBytes = 4 << 20  // bound of the memory of answers to publishes

	sentOnceBytes       = 80 // in the middle between a send that waits and one that does not
	publishedValueBytes = 80
)

func newSentMemory() *repeats.Memory[sendKey, *sentOnce] {
	return repeats.New[sendKey, *sentOnce](sentBytes, sentOnceBytes, func(k sendKey) int { return len(k.key) })
}

func newPublishedMemory() *repeats.Memory[string, Published] {
	return repeats.New[string, Published](publishedBytes, publishedValueBytes, func(key string) int { return len(key) })
}

// sendKey is the idempotency key of a send. It belongs to the connection.
type sendKey struct {
	token gateway.Token
	key   string
}

// sentOnce is what became of a send that was carried out.
type sentOnce struct {
	begun Outcome    // before it was known what became of the event
	done  chan error // as begin returns it; nil: nobody asked what became of the event

	known   chan struct{} // closed when outcome and err say that
	outcome Outcome
	err     error
}

// result returns what became of the event, or, where nobody asked, what was done. Where that is not
// known yet it waits for it for that time, and returns ErrWriteTimeout if it is still not known.
func (s *sentOnce) result(ctx context.Context, most time.Duration) (Outcome, error) {
	if s.done == nil {
		return s.begun, nil
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	for waited := false; ; {
		select {
		case <-s.known:
			return s.outcome, s.err
		case err := <-s.done:
			s.decide(err)
			continue
		default:
		}
		if waited {
			return 0, ErrWriteTimeout
		}
		select {
		case <-s.known:
		case err := <-s.done:
			s.decide(err)
		case <-timer.C:
			waited = true
		case <-ctx.Done():
			waited = true
		}
	}
}

// decide is called by who got the error from done: only one of those who wait does.
func (s *sentOnce) decide(err error) {
	s.outcome, s.err = outcomeOf(err)
	close(s.known)
}

// sendOnce carries out a send with an idempotency key, unless it is a repeat.
func (o *Own) sendOnce(ctx context.Context, s *Send, mayWait bool) (Outcome, error) {
	if s.Token == (gateway.Token{}) {
		return 0, ErrNotFound
	}
	key, digest := sendKey{s.Token, strings.Clone(s.IdempotencyKey)}, s.digest()
	for {
		claim, wait, entry, err := o.sent.Begin(key, digest)
		switch {
		case err != nil:
			return 0, err
		case wait != nil && !mayWait:
			return 0, ErrWouldWait
		case wait != nil:
			select {
			case <-wait:
			case <-ctx.Done():
				return 0, ErrWriteTimeout
			}
			continue
		case claim != nil:
			if err := o.beginOnce(ctx, s, claim); err != nil {
				return 0, err
			}
			return o.await(ctx, s, claim)
		}
		outcome, err := o.await(ctx, s, entry)
		if err == nil {
			return outcome | Duplicate, nil
		}
		if errors.Is(err, ErrWriteTimeout) {
			return 0, err
		}
		// The first turned out to have had no effect: this one is tried.
	}
}

// sentEntry is what is remembered of a send.
type sentEntry = repeats.Entry[sendKey, *sentOnce]

// beginOnce carries out the first send of a key. It is remembered from then on.
func (o *Own) beginOnce(ctx context.Context, s *Send, claim *sentEntry) error {
	defer claim.Drop() // unless it is kept, also after a panic
	outcome, done, err := o.begin(ctx, s)
	if err == nil {
		first := &sentOnce{begun: outcome}
		if done != nil {
			first.done, first.known = done, make(chan struct{})
		}
		claim.Keep(first)
	}
	return err
}

// await returns the result of a send that was carried out, as s asks for it. It forgets a send that
// turns out to have had no effect.
func (o *Own) await(ctx context.Context, s *Send, entry *sentEntry) (Outcome, error) {
	first := entry.Value()
	most := time.Duration(0)
	if s.Wait {
		most = WrittenDeadline
	}
	outcome, err := first.result(ctx, most)
	switch {
	case err == nil:
	case !errors.Is(err, ErrWriteTimeout):
		entry.Forget()
	case !s.Wait:
		return first.begun, nil
	}
	return outcome, err
}

// PublishOnce calls publish, which has to publish p, unless p is a repeat of what is remembered
// here. p must have an IdempotencyKey.
func (o *Own) PublishOnce(ctx context.Context, p Publication, publish func() (Published, error)) (Published, error) {
	done, repeated, err := o.publishes.Do(ctx, strings.Clone(p.IdempotencyKey), p.digest(), func() (Published, bool, error) {
		done, err := publish()
		// Without the nodes that were not reached the count is no answer to be repeated.
		return done, err == nil && !done.Duplicate && len(done.Unreachable) == 0, err
	})
	if done.Duplicate = done.Duplicate || repeated; done.Duplicate {
		o.republished.Add(1)
	}
	return done, err
}

// digest identifies what a send asks for.
func (s *Send) digest() repeats.Digest {
	d := repeats.NewDigester("send")
	d.Flag(s.HasEvent)
	d.Event(s.Event)
	d.Flag(s.Close)
	return d.Sum()
}

// digest identifies what a publication is. What is to be counted is not part of it.
func (p *Publication) digest() repeats.Digest {
	topics := slices.Clone(p.Topics)
	slices.Sort(topics)
	d := repeats.NewDigester("publish")
	d.Strings(slices.Compact(topics))
	d.Event(p.Event)
	d.Flag(p.Store)
	d.Flag(p.Retain)
	d.String(p.Key)
	return d.Sum()
}

// ForgottenKeys returns how many idempotency keys of sends were forgotten before their time, because
// there were too many.
func (o *Own) ForgottenKeys() uint64 { return o.sent.Forgotten() }
