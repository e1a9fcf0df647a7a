package nats

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/internal/broker"
)

const (
	pullExpiry    = 10 * time.Second
	pullHeartbeat = pullExpiry / 2  // twice that without a word, and the reader is made anew
	readerIdle    = time.Minute     // after which NATS forgets a reader that is gone
	loadWait      = time.Second / 2 // without a message, before the stream is asked what it still has
)

var (
	// errBadMessage ends Run: something else writes into the stream.
	errBadMessage = errors.New("a message in the log on NATS is not the gateway's")

	errOutOfOrder = errors.New("the reader lost a message")
)

// messages reads the stream from a sequence on. The readers of the library that
// keep the order themselves are not used: they cannot be stopped for certain while
// they begin anew.
func messages(ctx context.Context, stream jetstream.Stream, from uint64) (jetstream.MessagesContext, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(from, 1),
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: readerIdle,
	})
	if err != nil {
		return nil, err
	}
	return consumer.Messages(jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(pullHeartbeat),
		jetstream.WithMessagesErrOnMissingHeartbeat(true))
}

// load reads from the beginning up to where the stream was.
func (e *session) load(ctx context.Context, stream jetstream.Stream, cfg LogConfig) error {
	beginAt := func(sequence uint64) {
		e.log = broker.NewLog(stream.CachedInfo().Config.Metadata[epochKey], cfg.MaxBytes, cfg.MaxAge)
		e.log.BeginAt(sequence)
		e.seen = sequence
	}
	state := stream.CachedInfo().State
	if state.Msgs == 0 {
		beginAt(state.LastSeq)
		return nil
	}
	beginAt(state.FirstSeq - 1)
	from, err := messages(ctx, stream, state.FirstSeq)
	if err != nil {
		return err
	}
	defer from.Stop()
	for e.seen < state.LastSeq {
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
		if meta.Sequence.Stream != e.seen+1 { // the stream loses its oldest while it is read
			beginAt(meta.Sequence.Stream - 1)
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
func (e *session) read(ctx context.Context) error {
	again := e.conn.back()
	stream, err := e.current(ctx)
	if err != nil {
		return err
	}
	if last := stream.CachedInfo().State.LastSeq; last < e.seen {
		return fmt.Errorf("%w: it ends at %d, before %d", errCutShort, last, e.seen)
	}
	from, err := messages(ctx, stream, e.seen+1)
	if err != nil {
		return err
	}
	defer from.Stop()

	var group sync.WaitGroup
	defer group.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group.Go(func() {
		select {
		case <-again:
			cancel()
		case <-ctx.Done():
		}
	})
	for first := true; ; first = false {
		m, err := from.Next(jetstream.NextContext(ctx))
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("%w: %w", errBadMessage, err)
		}
		if meta.Sequence.Stream != e.seen+1 {
			if first {
				return fmt.Errorf("%w: %d comes behind %d", errLogLost, meta.Sequence.Stream, e.seen)
			}
			return errOutOfOrder
		}
		if err := e.take(m, meta); err != nil {
			return err
		}
	}
}

// take puts the next message into the log.
func (e *session) take(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
	if m.Subject() != e.subject {
		return fmt.Errorf("%w: another log's message %d", errLogLost, meta.Sequence.Stream)
	}
	p, origin, number, err := decode(m.Data())
	if err != nil {
		return fmt.Errorf("%w: %d: %w", errBadMessage, meta.Sequence.Stream, err)
	}
	e.seen = meta.Sequence.Stream
	at, err := e.log.AppendAt(p, e.seen, meta.Timestamp)
	if err != nil || origin != e.origin {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if mine, ok := e.waiting[number]; ok {
		mine <- at
	}
	return nil
}
