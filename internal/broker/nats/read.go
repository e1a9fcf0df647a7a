package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/internal/broker"
	"ssegateway/internal/guard"
)

const (
	pullExpiry    = 10 * time.Second
	pullHeartbeat = time.Second     // twice that without a word, and the reader is made anew
	readerIdle    = time.Minute     // after which NATS forgets a reader that is gone
	loadWait      = time.Second / 2 // without a message, before the stream is asked what it still has
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

// Stop ends reading, and lets NATS forget the reader soon: nodes that start see by the
// readers whether the log is in use.
func (r *reader) Stop() { r.stop() }

// messages reads the stream from a sequence on. The readers of the library that
// keep the order themselves are not used: they cannot be stopped for certain while
// they begin anew.
func (e *session) messages(ctx context.Context, stream jetstream.Stream, begin uint64) (*reader, error) {
	ctx, cancel := context.WithTimeout(ctx, e.timeout())
	defer cancel()
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(begin, 1),
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: readerIdle,
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
		info := consumer.CachedInfo() // an answer is not waited for: NATS may be away
		_ = e.conn.nats.Publish(jetstream.DefaultAPIPrefix+"CONSUMER.DELETE."+info.Stream+"."+info.Name, nil)
	}
	return &reader{from, stop}, nil
}

// load reads from the beginning up to where the stream was.
func (e *session) load(ctx context.Context, stream jetstream.Stream, cfg LogConfig) error {
	beginAt := func(sequence uint64) {
		e.log = broker.NewLog(stream.CachedInfo().Config.Metadata[epochKey], cfg.MaxBytes, cfg.MaxAge)
		e.log.BeginAt(sequence)
		e.seen.Store(sequence)
		e.last = author{}
	}
	state := stream.CachedInfo().State
	if state.Msgs == 0 {
		beginAt(state.LastSeq)
		return nil
	}
	beginAt(state.FirstSeq - 1)
	from, err := e.messages(ctx, stream, state.FirstSeq)
	if err != nil {
		return err
	}
	defer from.Stop()
	for e.seen.Load() < state.LastSeq {
		m, err := within(ctx, from, loadWait)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			// What was there may all have become too old meanwhile.
			info, err := stream.Info(ctx)
			if err != nil {
				return err
			}
			if info.State.Msgs == 0 {
				beginAt(info.State.LastSeq)
				return nil
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
		if meta.Sequence.Stream != e.seen.Load()+1 { // the stream loses its oldest while it is read
			beginAt(meta.Sequence.Stream - 1)
		}
		if m.Subject() != e.subject { // of the log before a renewal
			beginAt(meta.Sequence.Stream)
			continue
		}
		if err := e.take(m, meta); err != nil {
			return err
		}
	}
	return nil
}

func within(ctx context.Context, from jetstream.MessagesContext, patience time.Duration) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return from.Next(jetstream.NextContext(ctx))
}

// read takes into the log what comes, until something fails. It answers nil when
// the connection is there again: NATS may have forgotten the reader then.
func (e *session) read(ctx context.Context, back <-chan struct{}) error {
	stream, err := e.current(ctx)
	e.heard(err)
	if err != nil {
		return err
	}
	// It begins with the message that it has last, to see whether that is still the same.
	begin := e.seen.Load()
	if state := stream.CachedInfo().State; e.last == (author{}) || state.Msgs == 0 || state.FirstSeq > begin {
		begin++
	}
	from, err := e.messages(ctx, stream, begin)
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
	for fresh := true; ; {
		m, err := from.Next(jetstream.NextContext(reading))
		if reading.Err() != nil {
			if err = context.Cause(reading); errors.Is(err, context.Canceled) {
				return nil // by back, or ctx
			}
			return err
		}
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("%w: %w", errBadMessage, err)
		}
		seen := e.seen.Load()
		switch at := meta.Sequence.Stream; {
		case at == seen && fresh:
			if _, by, _ := decode(m.Data()); by != e.last {
				return fmt.Errorf("%w: %d is another message now", errCutShort, at)
			}
			continue
		case at > seen+1 && fresh:
			return fmt.Errorf("%w: %d comes behind %d", errLogLost, at, seen)
		case at != seen+1:
			return errOutOfOrder
		}
		if err := e.take(m, meta); err != nil {
			return err
		}
		fresh = false
	}
}

// take puts the next message into the log. One that is not the gateway's is passed over.
func (e *session) take(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
	at := meta.Sequence.Stream
	if m.Subject() != e.subject {
		return fmt.Errorf("%w: another log's message %d", errLogLost, at)
	}
	p, by, err := decode(m.Data())
	e.last = by
	e.seen.Store(at)
	if err != nil {
		e.conn.lines.foreign.Log(e.conn.log, slog.LevelError, "a message in the log is passed over",
			slog.Uint64("sequence", at), slog.String("error", fmt.Errorf("%w: %w", errBadMessage, err).Error()))
		return nil
	}
	position, err := e.log.AppendAt(p, at, meta.Timestamp)
	if err != nil || by.origin != e.origin {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if mine, ok := e.waiting[by.number]; ok {
		mine <- position
	}
	return nil
}
