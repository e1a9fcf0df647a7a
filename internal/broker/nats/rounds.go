package nats

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/internal/broker"
	"ssegateway/internal/guard"
)

const (
	markEvery = 1000 // messages that this node does not read, after which it marks how far it is
	markAge   = 4    // so often within the age of the log it does so anyway
	mostPasts = 4    // that are read at a time
	mostNames = 256  // of topics by which NATS filters a past; with more of them everything is read
)

// mark is a message that this node adds to the log. What was stored before it comes before it.
type mark struct {
	subject  string
	sequence uint64      // as the acknowledgement has it
	topics   []*followed // are taken from there on
	came     chan struct{}
}

// rounds carries out what is asked for until ctx ends: it subscribes to the fresh topics, and waits for a mark. The past of the
// topics up to the mark is read beside that. What comes of them behind the mark is taken as it comes.
func (e *session) rounds(ctx context.Context, f *feed) error {
	var filling sync.WaitGroup
	defer filling.Wait()
	turns := make(chan struct{}, mostPasts)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-e.own.wake:
		}
		r, fresh := e.own.take()
		if r == nil && len(fresh) == 0 {
			continue
		}
		m, err := e.reach(ctx, f, fresh)
		if r != nil {
			at := broker.Position{Epoch: e.log.Epoch()}
			if err == nil {
				at.Offset = m.sequence
			}
			r.end(at, err)
		}
		if err != nil {
			return err
		}
		if len(fresh) == 0 {
			continue
		}
		filling.Go(func() {
			defer guard.Recover()
			turns <- struct{}{}
			defer func() { <-turns }()
			e.fill(ctx, fresh, m)
		})
	}
}

// reach adds a mark, and waits until it comes. Fresh topics are subscribed to before.
func (e *session) reach(ctx context.Context, f *feed, fresh []*followed) (*mark, error) {
	if err := e.subscribeTo(f, fresh); err != nil {
		return nil, err
	}
	own := e.own
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

// addMark adds a mark to the log. expect is called before.
func (e *session) addMark(ctx context.Context, expect func(*mark)) (*mark, error) {
	ctx, timedOut := context.WithTimeout(ctx, appendTimeout)
	defer timedOut()
	ctx, cancel := e.conn.linked(ctx)
	defer cancel()
	e.mu.Lock()
	e.number++
	by := author{e.origin, e.number}
	e.mu.Unlock()
	m := &mark{subject: e.markSubject(strconv.FormatUint(by.number, 10)), came: make(chan struct{})}
	expect(m)
	data, err := encode(broker.Publication{Remove: true}, by) // for nodes of the version before: a removal of nothing
	if err != nil {
		return nil, err
	}
	seen := e.seen.Load()
	ack, err := e.js.PublishMsg(ctx, &nats.Msg{Subject: m.subject, Data: data}, jetstream.WithRetryAttempts(0))
	if err != nil {
		return nil, fmt.Errorf("marking the log: %w", err)
	}
	if ack.Sequence <= seen {
		return nil, fmt.Errorf("%w: it goes on at %d, and %d was read", errCutShort, ack.Sequence, seen)
	}
	m.sequence = ack.Sequence
	return m, nil
}

// fill adds to the log what topics had before a mark. It tries that until ctx ends.
func (e *session) fill(ctx context.Context, topics []*followed, m *mark) {
	for {
		past, begin, err := e.past(ctx, topics, m)
		if err == nil {
			e.log.Insert(past, begin)
			e.own.filled(topics)
			return
		}
		if ctx.Err() == nil {
			e.conn.lines.failed.Log(e.conn.log, slog.LevelWarn, "what topics had before cannot be read", slog.String("error", err.Error()))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookAgain):
		}
	}
}

// past reads what topics had before a mark. begin is the sequence behind which that is everything.
func (e *session) past(ctx context.Context, topics []*followed, m *mark) (past []broker.Past, begin uint64, err error) {
	subjects := make([]string, 0, len(topics)+1)
	wanted := map[string]bool{}
	for _, t := range topics {
		subjects = append(subjects, e.eventSubject(t.digest))
		wanted[e.eventSubject(t.digest)] = true
	}
	if subjects = append(subjects, m.subject); len(topics) > mostNames {
		subjects = nil
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
		if !wanted[message.Subject()] {
			continue
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

// watchOwn checks that this node reads as it has to, and that messages are published once more.
//
// It has this node mark the log, if the stream is far ahead of what it has read: so that it does not have to read
// all of that when it has to catch up.
func (e *session) watchOwn(ctx context.Context, stream jetstream.Stream) error {
	reason, err := e.whyAll(ctx, stream)
	if err != nil {
		return nil //nolint:nilerr // it is asked again
	}
	switch all := e.own.isAll(); {
	case all != (reason != nil):
		return errReopen
	case all:
		return nil
	case !e.publishesAgain(stream.CachedInfo().Config):
		return errNotAgain
	}
	end := stream.CachedInfo().State.LastSeq
	ahead := end - min(e.seen.Load(), end)
	if last := time.Unix(0, e.marked.Load()); ahead > markEvery || ahead > 0 && time.Since(last) > e.maxAge/markAge {
		e.own.ask()
	}
	return nil
}
