package connections

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/logging"
	"ssegateway/internal/repeats"
	"ssegateway/internal/topics"
	"ssegateway/sse"
)

// WrittenDeadline bounds how long a send waits to be written. A client that takes nothing
// for the stall deadline is disconnected before that, and the send returns ErrWriteFailed.
const WrittenDeadline = gateway.StallDeadline + 2*time.Second

// Own are the connections of this node's gateway.
type Own struct {
	gw     *gateway.Gateway
	topics *topics.Topics
	name   func() string
	log    *slog.Logger
	sends  [len(sendResults)]atomic.Uint64

	answers Answers

	published, unpublished, republished atomic.Uint64

	sent      *repeats.Memory[sendKey, *sentOnce]
	publishes *repeats.Memory[string, Published]
}

// NewOwn makes an Own. name returns the node's name for people, which may change.
func NewOwn(gw *gateway.Gateway, t *topics.Topics, name func() string, log *slog.Logger) *Own {
	return &Own{gw: gw, topics: t, name: name, log: log, answers: noAnswers{}, sent: newSentMemory(), publishes: newPublishedMemory()}
}

// The results of sends, as they are counted.
const (
	countOK = iota
	countBuffered
	countWritten
	countInvalid
	countNotFound
	countBufferFull
	countWriteFailed
	countTimeout
	countDropped
	countDuplicate
)

var sendResults = [...]string{
	countOK: "ok", countBuffered: "buffered", countWritten: "written", countInvalid: InvalidSend,
	countNotFound: "not_found", countBufferFull: "buffer_full", countWriteFailed: "write_failed", countTimeout: "timeout",
	countDropped: "dropped", countDuplicate: "duplicate",
}

// InvalidSend is the counted result of sends that were refused as invalid, also with ErrAhead.
const InvalidSend = "invalid"

// Sends calls f for each possible result of a send to a connection of this node, with the
// number of times that it occurred.
func (o *Own) Sends(f func(result string, n uint64)) {
	for i, name := range sendResults {
		f(name, o.sends[i].Load())
	}
}

// Publishes returns how many publishes by this node succeeded, how many the broker did not take, and
// how many were repeats.
func (o *Own) Publishes() (ok, failed, duplicate uint64) {
	return o.published.Load(), o.unpublished.Load(), o.republished.Load()
}

// countOf returns the index in sendResults under which a send is counted.
func countOf(outcome Outcome, err error) int {
	switch outcome {
	case Sent:
		return countOK
	case Buffered:
		return countBuffered
	case Written:
		return countWritten
	case Dropped:
		return countDropped
	}
	if outcome&Duplicate != 0 {
		return countDuplicate
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return countNotFound
	case errors.Is(err, ErrBufferFull):
		return countBufferFull
	case errors.Is(err, ErrWriteFailed):
		return countWriteFailed
	case errors.Is(err, ErrWriteTimeout):
		return countTimeout
	default:
		return countInvalid
	}
}

// Name returns the node's name.
func (o *Own) Name() string { return o.name() }

// Holds reports whether this node has a connection, which may have closed already.
func (o *Own) Holds(token gateway.Token) bool {
	if o.gw.Find(token) != nil {
		return true
	}
	_, ok := o.answers.Answer(token)
	return ok
}

// SendNow implements [Connections].
func (o *Own) SendNow(ctx context.Context, s Send) (Outcome, error) {
	if s.Wait || s.Event.ID.IsSet() && o.topics.MustAsk(s.Event.ID.String()) {
		return 0, ErrWouldWait
	}
	return o.send(ctx, &s, false)
}

// Send implements [Connections].
func (o *Own) Send(ctx context.Context, s Send) (outcome Outcome, err error) {
	return o.send(ctx, &s, true)
}

// send carries out a send. Unless it may wait it may return ErrWouldWait instead.
func (o *Own) send(ctx context.Context, s *Send, mayWait bool) (outcome Outcome, err error) {
	if s.IdempotencyKey == "" {
		outcome, err = o.perform(ctx, s)
	} else if outcome, err = o.sendOnce(ctx, s, mayWait); err == ErrWouldWait { //nolint:errorlint // it is returned as it is
		return 0, err
	}
	o.sends[countOf(outcome, err)].Add(1)
	return outcome, err
}

// isAhead reports whether the id of an event is a position that this node has not reached yet.
// The client would reconnect with it, and miss what is published until then.
func (o *Own) isAhead(ctx context.Context, id sse.ID) bool {
	return id.IsSet() && o.topics.IsAhead(ctx, id.String())
}

// Close implements [Connections].
func (o *Own) Close(ctx context.Context, token gateway.Token) (Outcome, error) {
	return o.perform(ctx, &Send{Token: token, Close: true})
}

// perform carries out a send, as if it had no idempotency key.
func (o *Own) perform(ctx context.Context, s *Send) (Outcome, error) {
	outcome, done, err := o.begin(ctx, s)
	if err != nil || done == nil {
		return outcome, err
	}
	select {
	case err := <-done:
		return outcomeOf(err)
	case <-time.After(WrittenDeadline):
	case <-ctx.Done():
	}
	return 0, ErrWriteTimeout
}

// begin does what a send asks for, but does not wait. done, if not nil, gets what outcomeOf
// translates.
func (o *Own) begin(ctx context.Context, s *Send) (outcome Outcome, done chan error, err error) {
	if o.isAhead(ctx, s.Event.ID) {
		return 0, nil, ErrAhead
	}
	c := o.gw.Find(s.Token)
	if c == nil {
		return o.beginAnswer(s)
	}
	if o.log.Enabled(ctx, slog.LevelDebug) {
		o.log.DebugContext(ctx, "send", "token", s.Token.String(), "event", s.Event.Name.String(), "bytes", len(s.Event.Data), "path", logging.Cut(c.Path()))
	}
	var f frame.Frame
	if s.HasEvent {
		f = frame.Event(o.gw.Form(s.Event))
	}
	if s.Wait && s.HasEvent {
		done = make(chan error, 1)
	}
	switch c.Send(f, s.Close, done) {
	case gateway.Sent:
		return Sent, done, nil
	case gateway.Buffered:
		return Buffered, done, nil
	case gateway.Full:
		return 0, nil, ErrBufferFull
	case gateway.Failed:
		return 0, nil, ErrWriteFailed
	case gateway.Relayed:
		return 0, nil, ErrRelayed
	case gateway.Gone:
	}
	return 0, nil, ErrNotFound
}

// beginAnswer is begin for what may be an answer without a connection.
func (o *Own) beginAnswer(s *Send) (outcome Outcome, done chan error, err error) {
	if s.HasEvent {
		if _, ok := o.answers.Answer(s.Token); ok {
			return 0, nil, ErrRelayed
		}
	} else if o.answers.StopAnswer(s.Token) {
		return Sent, nil, nil
	}
	return 0, nil, ErrNotFound
}

// outcomeOf returns what became of a send that was waited for.
func outcomeOf(err error) (Outcome, error) {
	switch {
	case err == nil:
		return Written, nil
	case errors.Is(err, gateway.ErrDropped):
		return Dropped, nil
	case errors.Is(err, gateway.ErrLeft):
		return 0, ErrNotFound
	default:
		return 0, ErrWriteFailed
	}
}

// Batch implements [Connections].
func (o *Own) Batch(ctx context.Context, operations []Operation) []Result {
	results := make([]Result, len(operations))
	for i := range operations {
		if p := operations[i].Publish; p != nil {
			results[i].Published, results[i].Err = o.Publish(ctx, *p)
		} else {
			results[i].Outcome, results[i].Err = o.Send(ctx, operations[i].Send)
		}
	}
	return results
}

// Describe implements [Connections].
func (o *Own) Describe(_ context.Context, token gateway.Token) (Info, error) {
	if c := o.gw.Find(token); c != nil {
		if info := c.Info(); info.State != gateway.Closed || info.Answer != nil {
			if info.Request = c.Request(); info.Request != nil {
				info.Request.Path = validText(info.Request.Path)
			}
			return show(info, o.name()), nil
		}
	}
	if info, ok := o.answers.Answer(token); ok {
		return show(info, o.name()), nil
	}
	return Info{}, ErrNotFound
}

func show(i gateway.Info, node string) Info {
	i.Path = validText(i.Path)
	return Info{i, node}
}

func validText(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

// Change implements [Connections].
func (o *Own) Change(ctx context.Context, token gateway.Token, add, remove []string) (names []string, err error) {
	c := o.gw.Find(token)
	if c == nil {
		if _, ok := o.answers.Answer(token); ok {
			return nil, ErrRelayed
		}
		return nil, ErrNotFound
	}
	if c.State() == gateway.Open {
		release, err := o.topics.Follow(ctx, add, "")
		if err != nil {
			return nil, err
		}
		defer release()
	}
	names, err = c.Change(add, remove)
	switch {
	case err == nil:
		return names, nil
	case errors.Is(err, topics.ErrTooManyTopics):
		return nil, ErrTooManyTopics
	case errors.Is(err, gateway.ErrRelayed):
		return nil, ErrRelayed
	case c.State() == gateway.Pending:
		return nil, ErrPending
	default:
		return nil, ErrNotFound
	}
}

// MaxTopics returns how many topics a connection may have.
func (o *Own) MaxTopics() int { return o.gw.MaxTopics() }

// List implements [Connections].
func (o *Own) List(_ context.Context, q Query) (p Page) {
	list := o.gw.List(q.Filter, q.After, q.Limit+1)
	node := o.name()
	size := 0
	for i, c := range list {
		var info gateway.Info
		if i < q.Limit {
			info = c.Info()
			size += 500 + len(info.Path) + len(info.Subject)
			for _, t := range info.Topics {
				size += len(t) + 3
			}
		}
		if i == q.Limit || i > 0 && size > q.Bytes {
			p.Next = list[i-1].Token() // more connections follow
			break
		}
		if info.State != gateway.Closed || info.Answer != nil { // meanwhile
			p.Connections = append(p.Connections, show(info, node))
		}
	}
	return p
}

// CloseAll implements [Connections].
func (o *Own) CloseAll(_ context.Context, f gateway.Filter) Closed {
	return Closed{Count: o.gw.CloseAll(f)}
}

// Statistics implements [Connections].
func (o *Own) Statistics(context.Context) Statistics {
	s := o.gw.Stats()
	return Statistics{
		Node: o.name(),
		Counts: Counts{
			Pending: s.Pending.Load(), Open: s.Open.Load(), Opened: s.Opened.Load(),
			Events: s.Events.Load(), Bytes: s.Bytes.Load(), Queued: o.gw.QueuedBytes(), EventsDropped: s.Dropped.Load(),
		},
		Log: o.topics.Log(),
	}
}

// Publish implements [Connections].
func (o *Own) Publish(ctx context.Context, p Publication) (Published, error) {
	if p.IdempotencyKey != "" {
		return o.PublishOnce(ctx, p, func() (Published, error) { return o.publish(ctx, p) })
	}
	return o.publish(ctx, p)
}

func (o *Own) publish(ctx context.Context, p Publication) (Published, error) {
	d := o.Expect(0)
	defer d.Forget()
	return o.PublishAs(ctx, d, p)
}

// Position implements [Connections].
func (o *Own) Position(ctx context.Context) broker.Position { return o.topics.Position(ctx) }

// Retained implements [Connections].
func (o *Own) Retained(q RetainedQuery) (p RetainedPage) {
	p.Events, p.Next, p.More = o.topics.Retained(q.Topic, q.After, q.Limit, q.Bytes)
	return p
}

// Remove implements [Connections].
func (o *Own) Remove(ctx context.Context, topic, key string) (removed int, err error) {
	return o.topics.Remove(ctx, []string{topic}, key)
}

// Expect returns a Delivery that counts the receivers of the record with that ref; 0 chooses
// a ref that no other node uses. The caller must call Forget in the end.
func (o *Own) Expect(ref uint64) *topics.Delivery { return o.topics.Expect(ref) }

// PublishAs publishes p as the record that the Delivery d waits for.
func (o *Own) PublishAs(ctx context.Context, d *topics.Delivery, p Publication) (done Published, err error) {
	published := broker.Publication{Topics: p.Topics, Event: o.gw.Form(p.Event), Store: p.Store, Retain: p.Retain, Key: p.Key}
	if p.IdempotencyKey != "" {
		published.IdempotencyKey, published.Digest = p.IdempotencyKey, p.digest()
	}
	done.Position, done.Receivers, err = d.Publish(ctx, published)
	switch {
	case err == nil:
		o.published.Add(1)
	case errors.Is(err, broker.ErrRepeated):
		done.Duplicate, done.Uncounted = true, true
		return done, nil
	case !errors.Is(err, ErrKeyReused):
		o.unpublished.Add(1)
	}
	return done, err
}
