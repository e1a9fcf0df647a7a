package nats

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/internal/broker"
)

const (
	digestHeader = "Ssegateway-Digest" // of a publication with an idempotency key
	noID         = "-"                 // the id of no message

	wrongLastID      = 10070 // NATS' code for another last id than expected
	repeatInProcess  = 10158 // NATS' code for a repeat of what is being stored
	duplicatesWindow = 30 * time.Second
	leastWindow      = 2 * appendTimeout      // the shortest with which an append may be repeated
	attemptTimeout   = time.Second            // of one attempt to append
	firstRepeat      = 100 * time.Millisecond // before the next, doubled up to lastRepeat
	lastRepeat       = 500 * time.Millisecond
)

// appending is an event on its way into the log.
type appending struct {
	p       broker.Publication
	by      author
	message *nats.Msg
	options []jetstream.PublishOpt
	full    bool          // there is no room for it, so only a repeat is not refused
	mine    chan readBack // gets what has become of it when this node has read it back
}

// append adds an event to the log. It returns when JetStream has stored the event and this
// node has read it back.
func (e *session) append(ctx context.Context, p broker.Publication) (broker.Position, error) {
	a := &appending{p: p, mine: make(chan readBack, 1)}
	if p.Retain || p.Remove {
		if err := e.retry(ctx, e.openStore); err != nil {
			return broker.Position{}, fmt.Errorf("%w: %w: %w", broker.ErrUnavailable, errRetaining, err)
		}
	}
	if p.Retain {
		release, ok := e.log.Reserve(p)
		defer release()
		if a.full = !ok; a.full && p.IdempotencyKey == "" {
			return broker.Position{}, broker.ErrRetainedFull
		}
	}
	defer e.expect(a)()
	select {
	case <-e.closed:
		return broker.Position{}, broker.ErrUnavailable
	default:
	}
	if err := e.prepare(ctx, a); err != nil {
		return broker.Position{}, err
	}
	at, err := e.send(ctx, a)
	if err == nil && (p.Retain || p.Remove) {
		err = e.copied(ctx, a, at)
	}
	return at, err
}

// expect gives the event its number, by which it is known when it is read back. The caller calls
// the result when it does not wait for that any more.
func (e *session) expect(a *appending) func() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.number++
	a.by = author{e.origin, e.number}
	e.waiting[a.by.number] = a.mine
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.waiting, a.by.number)
	}
}

// prepare makes the message.
func (e *session) prepare(ctx context.Context, a *appending) error {
	data, err := encode(a.p, a.by)
	if err != nil {
		return err
	}
	if limit := e.conn.nats.MaxPayload(); int64(len(data)) > limit {
		return fmt.Errorf("the event takes %d bytes in the log, and a message on NATS (max_payload) at most %d: %w",
			len(data), limit, broker.ErrTooLarge)
	}
	a.message = &nats.Msg{Subject: e.subjectOf(a.p), Data: data, Header: nats.Header{}}
	if a.p.Retain || a.p.Remove {
		a.message.Header.Set(storeHeader, e.storeID())
	}
	a.options = []jetstream.PublishOpt{jetstream.WithRetryAttempts(0)}
	switch {
	case a.p.IdempotencyKey != "":
		if err := e.retry(ctx, e.lengthen); err != nil {
			return fmt.Errorf("%w: remembering keys on NATS: %w", broker.ErrUnavailable, err)
		}
		a.message.Header.Set(digestHeader, base64.RawURLEncoding.EncodeToString(a.p.Digest[:]))
		a.options = append(a.options, jetstream.WithMsgID("key."+digestOf(a.p.IdempotencyKey)))
		if a.full { // NATS looks for a repeat first, and finds then that the last message had another id
			a.options = append(a.options, jetstream.WithExpectLastMsgID(noID))
		}
	case e.repeats:
		a.options = append(a.options, jetstream.WithMsgID(a.by.origin+"-"+strconv.FormatUint(a.by.number, 10)))
	}
	return nil
}

// send stores an event in JetStream, and waits until this node has read it back. While a leader
// is elected, or the connected server is gone, it tries again. NATS recognises the event by its id,
// so that it is stored once.
func (e *session) send(ctx context.Context, a *appending) (broker.Position, error) {
	var sequence uint64
	for repeat := firstRepeat; ; repeat = min(2*repeat, lastRepeat) {
		ack, err := e.attempt(ctx, a)
		if err == nil && ack.Duplicate && a.p.IdempotencyKey != "" {
			var at broker.Position
			if at, err = e.repeated(ctx, a, ack.Sequence); !mayPass(err) && !errors.Is(err, errOwn) {
				return at, err
			}
		}
		if err == nil || errors.Is(err, errOwn) {
			sequence = ack.Sequence
			break
		}
		if code := codeOf(err); a.full && code == wrongLastID {
			return broker.Position{}, broker.ErrRetainedFull
		}
		err = fmt.Errorf("%w: appending to the log on NATS: %w", broker.ErrUnavailable, err)
		if !e.repeats || !mayPass(err) || e.conn.gone() {
			return broker.Position{}, err
		}
		select {
		case mine := <-a.mine:
			return mine.result()
		case <-ctx.Done():
			return broker.Position{}, err
		case <-e.closed:
			return broker.Position{}, broker.ErrUnavailable
		case <-time.After(repeat/2 + rand.N(repeat)): //nolint:gosec // to spread, not to hide
		}
	}
	if !e.comes(a.message.Subject, sequence) {
		return readBack{broker.Position{Epoch: e.log.Epoch(), Offset: sequence}, true}.result()
	}
	ctx, cancel := e.conn.linked(ctx)
	defer cancel()
	select {
	case mine := <-a.mine:
		return mine.result()
	case <-ctx.Done():
		return broker.Position{}, fmt.Errorf("%w: reading the event back: %w", broker.ErrUnavailable, context.Cause(ctx))
	case <-e.closed:
		return broker.Position{}, broker.ErrUnavailable
	}
}

func (r readBack) result() (broker.Position, error) {
	if r.unread {
		return r.at, broker.ErrUnread
	}
	return r.at, nil
}

// comes reports whether an event that NATS has stored with that subject and sequence comes back to this node.
func (e *session) comes(subject string, sequence uint64) bool {
	digest, ok := e.topicOf(subject)
	return !ok || e.own.comes(digest, sequence)
}

// retry calls f again while the stream has no leader, or another server is expected to take over.
func (e *session) retry(ctx context.Context, f func(context.Context) error) error {
	for {
		err := f(ctx)
		if err == nil || !mayPass(err) && !errors.Is(err, broker.ErrUnavailable) || e.conn.gone() {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-e.closed:
			return err
		case <-time.After(firstRepeat):
		}
	}
}

// attempt tries once to append.
func (e *session) attempt(ctx context.Context, a *appending) (*jetstream.PubAck, error) {
	timeout := appendTimeout
	if e.repeats {
		timeout = attemptTimeout
	}
	ctx, timedOut := context.WithTimeout(ctx, timeout)
	defer timedOut()
	ctx, cancel := e.conn.linked(ctx)
	defer cancel()
	return e.js.PublishMsg(ctx, a.message, a.options...)
}

// mayPass reports whether an append failed because there was no leader or no connection, or
// because another one with its key is in progress.
func mayPass(err error) bool {
	return errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrDisconnected) ||
		codeOf(err) == repeatInProcess
}

// codeOf returns the code of an error of JetStream; 0: it is none.
func codeOf(err error) jetstream.ErrorCode {
	if api := (*jetstream.APIError)(nil); errors.As(err, &api) {
		return api.ErrorCode
	}
	return 0
}

// errOwn means that what was taken for a repeat is the message of an earlier attempt.
var errOwn = errors.New("the event was stored by an earlier attempt")

// repeated returns the result of an append whose key JetStream knew, from the message with that
// sequence. Its error is never nil. It returns when this node has read that message, and it was copied if it is to be.
func (e *session) repeated(ctx context.Context, a *appending, sequence uint64) (broker.Position, error) {
	at := broker.Position{Epoch: e.log.Epoch(), Offset: sequence}
	getting, cancel := e.conn.linked(ctx)
	first, err := e.handle.GetMsg(getting, sequence)
	cancel()
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound): // the log's bounds have dropped it
		return at, broker.ErrRepeated
	case err != nil:
		return at, fmt.Errorf("%w: looking for the first event of a key: %w", broker.ErrUnavailable, err)
	}
	p, by, err := decode(first.Data)
	if by == a.by {
		return at, errOwn
	}
	if err != nil || first.Header.Get(digestHeader) != a.message.Header.Get(digestHeader) {
		return at, broker.ErrKeyReused
	}
	if !e.isMine(first.Subject) { // of the log before renew
		at.Epoch, _, _ = strings.Cut(strings.TrimPrefix(first.Subject, strings.TrimSuffix(e.subject, at.Epoch)), ".")
		return at, broker.ErrRepeated
	}
	if e.own != nil {
		e.own.ask() // else this node may not come there for long
	}
	if err := e.hasRead(ctx, sequence); err != nil {
		return at, err
	}
	if !p.Store && !p.Remove {
		at.Offset = e.log.LastStored(sequence)
	}
	if p.Retain {
		if err := e.copied(ctx, a, at); err != nil {
			return at, err
		}
	}
	return at, broker.ErrRepeated
}

// hasRead waits until this node has read up to that sequence.
func (e *session) hasRead(ctx context.Context, sequence uint64) error {
	ctx, cancel := e.conn.linked(ctx)
	defer cancel()
	for {
		e.mu.Lock()
		if e.progress == nil {
			e.progress = make(chan struct{})
		}
		more := e.progress
		e.mu.Unlock()
		if e.seen.Load() >= sequence {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("%w: reading the first event of a key: %w", broker.ErrUnavailable, context.Cause(ctx))
		case <-e.closed:
			return broker.ErrUnavailable
		}
	}
}

// lengthen has NATS remember ids for as long as an idempotency key lives, or as long as the log.
func (e *session) lengthen(ctx context.Context) error {
	if e.remembers.Load() {
		return nil
	}
	e.changing.Lock()
	defer e.changing.Unlock()
	stream, err := e.current(ctx)
	if err != nil {
		return err
	}
	have := stream.CachedInfo().Config
	if want := keyWindow(have); have.Duplicates < want {
		have.Duplicates = want
		if _, err := e.js.UpdateStream(ctx, have); err != nil {
			return err
		}
	}
	e.remembers.Store(true)
	return nil
}

func keyWindow(log jetstream.StreamConfig) time.Duration { return min(log.MaxAge, broker.KeyLife) }
