package nats

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/internal/broker"
	"ssegateway/internal/guard"
)

const (
	pullExpiry    = 10 * time.Second
	pullHeartbeat = time.Second     // after twice that without a message the reader is made anew
	readerIdle    = time.Minute     // after which NATS removes an unused reader
	loadWait      = time.Second / 2 // without a message, before the stream is asked what it still holds
)

var (
	errBadMessage = errors.New("a message on NATS is not the gateway's")
	errOutOfOrder = errors.New("the reader lost a message")
)

// reader reads a stream.
type reader struct {
	jetstream.MessagesContext

	stop func()
}

// Stop ends reading, and has NATS remove the reader soon: nodes that start count the readers
// to see whether the log is in use.
func (r *reader) Stop() { r.stop() }

// messages makes a reader of the stream from a sequence on, of all messages or those with one of the subjects. It does not use the library's
// ordered consumers: they cannot be stopped reliably while they begin anew.
func (e *session) messages(ctx context.Context, stream jetstream.Stream, begin uint64, subjects ...string) (*reader, error) {
	ctx, cancel := context.WithTimeout(ctx, e.timeout())
	defer cancel()
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(begin, 1),
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: readerIdle,
		Metadata: map[string]string{readsKey: readsSubjects}, FilterSubjects: subjects,
	})
	if err != nil {
		return nil, err
	}
	from, err := consumer.Messages(jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(pullHeartbeat),
		jetstream.WithMessagesErrOnMissingHeartbeat(true))
	if err != nil {
		return nil, err
	}
	stop := func() {
		from.Stop()
		info := consumer.CachedInfo() // the deletion waits for no answer: NATS may be down
		_ = e.conn.nats.Publish(jetstream.DefaultAPIPrefix+"CONSUMER.DELETE."+info.Stream+"."+info.Name, nil)
	}
	return &reader{from, stop}, nil
}

// load reads what is retained, and then the log from the beginning up to where the stream was.
func (e *session) load(ctx context.Context, stream jetstream.Stream, cfg LogConfig) (err error) {
	beginAt := func(sequence uint64) {
		e.log = broker.NewLog(stream.CachedInfo().Config.Metadata[epochKey], cfg.MaxBytes, cfg.MaxAge)
		e.log.LimitRetained(cfg.RetainedBytes)
		e.log.BeginAt(sequence)
		e.seen.Store(sequence)
		e.last, e.restored = author{}, false
	}
	state := stream.CachedInfo().State
	beginAt(max(state.FirstSeq, 1) - 1)
	if e.stored, err = e.readStore(ctx); err != nil {
		return err
	}
	if err := e.loadWindow(ctx, stream, beginAt); err != nil {
		return err
	}
	if err := e.restore(); err != nil {
		return err
	}
	return e.checkEnd(ctx, stream)
}

// checkEnd returns errCutShort if more of this log is retained than there is of it.
func (e *session) checkEnd(ctx context.Context, stream jetstream.Stream) error {
	last := uint64(0)
	for _, c := range e.stored {
		if c.at.Epoch == e.log.Epoch() {
			last = c.at.Offset
		}
	}
	e.stored = nil
	for again := false; e.seen.Load() < last; again = true {
		info, err := stream.Info(ctx)
		if err != nil || info.State.LastSeq >= last {
			return err
		}
		if again {
			return fmt.Errorf("%w: it ends at %d, and %d is retained", errCutShort, info.State.LastSeq, last)
		}
		select { // a new leader may not have all messages yet
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookAgain):
		}
	}
	return nil
}

func (e *session) loadWindow(ctx context.Context, stream jetstream.Stream, beginAt func(uint64)) error {
	state := stream.CachedInfo().State
	if state.Msgs == 0 {
		beginAt(state.LastSeq)
		return nil
	}
	copied := false // the window has events that are retained
	from, err := e.messages(ctx, stream, state.FirstSeq)
	if err != nil {
		return err
	}
	defer from.Stop()
	for e.seen.Load() < state.LastSeq {
		m, err := within(ctx, from, loadWait)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			// All messages may have expired meanwhile.
			info, err := stream.Info(ctx)
			if err != nil {
				return err
			}
			if info.State.Msgs == 0 {
				beginAt(info.State.LastSeq)
				e.stored, err = e.readStore(ctx) // they may have been retained since
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if meta.Sequence.Stream != e.seen.Load()+1 { // the stream dropped its oldest messages while it is read
			beginAt(meta.Sequence.Stream - 1)
			if e.stored, err = e.readStore(ctx); err != nil { // those may have been retained since
				return err
			}
		}
		if !e.isMine(m.Subject()) { // a message of the log before renew
			beginAt(meta.Sequence.Stream)
			continue
		}
		if err := e.restore(); err != nil {
			return err
		}
		if l := loggedOf(m, meta); e.reads(l.subject) {
			err = e.take(l)
		} else {
			e.pass(l)
		}
		if err != nil {
			return err
		}
		copied = copied || m.Headers().Get(storeHeader) != ""
	}
	if copied && e.storeID() == "" { // it was made meanwhile, or was lost: then it copies what the log has
		_ = e.openStore(ctx) // if that fails, the next event that is to be retained tries it again
	}
	return nil
}

func within(ctx context.Context, from jetstream.MessagesContext, patience time.Duration) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return from.Next(jetstream.NextContext(ctx))
}

// read adds new messages to the log until an error occurs. It returns nil when the connection
// has come back: NATS may have removed the reader meanwhile.
func (e *session) read(ctx context.Context, back <-chan struct{}) error {
	stream, err := e.current(ctx)
	e.heard(err)
	if err != nil {
		return err
	}
	from, err := e.resume(ctx, stream)
	if err != nil {
		return err
	}
	defer from.Stop()

	var watching sync.WaitGroup
	defer watching.Wait()
	reading, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watching.Go(func() {
		defer guard.Recover()
		cancel(e.watch(reading, back))
	})
	e.failed.Store(0)
	if e.own != nil {
		e.own.ready()
	}
	for fresh := true; ; {
		m, err := from.Next(jetstream.NextContext(reading))
		if reading.Err() != nil {
			if err = context.Cause(reading); errors.Is(err, context.Canceled) {
				return nil // back is closed, or ctx has ended
			}
			return err
		}
		if err != nil {
			return err
		}
		if fresh, err = e.accept(m, fresh); err != nil {
			return err
		}
	}
}

// resume makes a reader of what is behind the last message that is known. If that message is still there it comes first,
// so that accept can check that it is the same.
func (e *session) resume(ctx context.Context, stream jetstream.Stream) (*reader, error) {
	begin := e.seen.Load()
	if state := stream.CachedInfo().State; e.last == (author{}) || state.Msgs == 0 || state.FirstSeq > begin {
		begin++
	}
	return e.messages(ctx, stream, begin)
}

// accept takes the next message of a reader, which is fresh until it has given a message that was not known. It returns
// whether it still is.
func (e *session) accept(m jetstream.Msg, fresh bool) (bool, error) {
	meta, err := m.Metadata()
	if err != nil {
		return false, fmt.Errorf("%w: %w", errBadMessage, err)
	}
	seen := e.seen.Load()
	switch at := meta.Sequence.Stream; {
	case at == seen && fresh:
		if _, by, _ := decode(m.Data()); by != e.last {
			return false, fmt.Errorf("%w: %d is another message now", errCutShort, at)
		}
		return true, nil
	case at > seen+1 && fresh:
		return false, fmt.Errorf("%w: %d comes behind %d", errLogLost, at, seen)
	case at != seen+1:
		return false, errOutOfOrder
	}
	l := loggedOf(m, meta)
	if e.isMine(l.subject) && !e.reads(l.subject) {
		e.pass(l)
		return false, nil
	}
	return false, e.takeNew(l)
}

// takeNew takes a message that was added since the log was loaded.
func (e *session) takeNew(l logged) error {
	err := e.take(l)
	if err == nil && l.store != "" {
		e.hearOfStore(l.store)
	}
	return err
}

func loggedOf(m jetstream.Msg, meta *jetstream.MsgMetadata) logged {
	return logged{m.Subject(), m.Data(), meta.Sequence.Stream, meta.Timestamp, m.Headers().Get(storeHeader)}
}

// take adds the next message to the log. It skips one that is not the gateway's.
func (e *session) take(l logged) error {
	at := l.sequence
	if !e.isMine(l.subject) {
		return fmt.Errorf("%w: another log's message %d", errLogLost, at)
	}
	p, by, err := decode(l.data)
	e.last = by
	if err != nil {
		e.passOver(at, fmt.Errorf("%w: %w", errBadMessage, err))
		e.seen.Store(at)
		return nil
	}
	if e.isMark(l.subject) {
		e.log.Reach(at)
		e.seen.Store(at)
		e.readBack(by, readBack{})
		return nil
	}
	position, err := e.log.AppendAt(p, at, e.clock.local(l.at, time.Now()))
	e.seen.Store(at)
	if err != nil {
		return err
	}
	e.readBack(by, readBack{position, false})
	return nil
}

// readBack is what has become of a message that this node appended.
type readBack struct {
	at     broker.Position
	unread bool // this node does not read its topic
}

// readBack tells whoever waits that a message of this author has been read.
func (e *session) readBack(by author, what readBack) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.progress != nil {
		close(e.progress)
		e.progress = nil
	}
	if mine, ok := e.waiting[by.number]; ok && by.origin == e.origin {
		mine <- what
	}
}
