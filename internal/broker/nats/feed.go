package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/internal/broker"
	"ssegateway/internal/guard"
)

// Subjects of a log of which nodes read a part, below the log's own. JetStream stores a message, and then publishes it once more,
// below "live" instead of "log". So a node gets what it has subscribed to, in the log's order.
const (
	eventToken = "e"    // <digest of the topic>.e: an event that is not retained
	markToken  = "mark" // mark.<origin>.<number>: the sign by which a node knows how far it has read

	// Headers of a message that was published once more.
	subjectHeader  = "Nats-Subject"
	sequenceHeader = "Nats-Sequence"
	timeHeader     = "Nats-Time-Stamp"
	beforeHeader   = "Nats-Last-Sequence" // of the message before, with the same subject

	feedRoom = 1 << 16 // messages that may wait to be taken
)

var (
	errBehind    = errors.New("messages of NATS came faster than they were taken")
	errNotAgain  = errors.New("the log's stream does not publish its messages once more")
	errHole      = fmt.Errorf("%w: NATS did not deliver a message of it", errLogLost)
	errMarkLost  = errors.New("the node's own mark did not come")
	errReconnect = errors.New("the connection to NATS is another one")
	errReopen    = errors.New("from now on another part of the log is read")
	errServers   = errors.New("NATS has several servers, which can lose messages between them")
)

// feed is what NATS delivers of the log as it is stored.
type feed struct {
	messages   chan *nats.Msg
	common     []*nats.Subscription // to what every node reads
	reconnects uint64               // of the connection, before the first subscription
	begin      uint64               // up to this sequence a reader has read

	mark *mark // that is waited for; guarded by the interest's lock
}

func (e *session) markSubject(number string) string {
	return strings.Join([]string{e.subject, markToken, e.origin, number}, ".")
}

func (e *session) live(subject string) string {
	return e.prefix + ".live." + strings.TrimPrefix(subject, e.prefix+".log.")
}

func (e *session) eventSubject(digest string) string {
	return e.subject + "." + digest + "." + eventToken
}

// reads reports whether this node takes a message with that subject.
func (e *session) reads(subject string) bool {
	digest, ok := e.topicOf(subject)
	return !ok || e.own == nil || e.own.isWhole(digest)
}

// topicOf returns the digest of the topic of an event that has only one and is not retained.
func (e *session) topicOf(subject string) (digest string, ok bool) {
	return strings.CutSuffix(strings.TrimPrefix(subject, e.subject+"."), "."+eventToken)
}

// isMark reports whether a message with that subject marks how far a node has read.
func (e *session) isMark(subject string) bool {
	return strings.HasPrefix(strings.TrimPrefix(subject, e.subject), "."+markToken+".")
}

// readOwn is read for a node that does not read everything.
func (e *session) readOwn(ctx context.Context, back <-chan struct{}) error {
	stream, err := e.current(ctx)
	e.heard(err)
	if err == nil {
		err = e.publishAgain(ctx, stream)
	}
	if err != nil {
		return err
	}
	f := &feed{messages: make(chan *nats.Msg, feedRoom), reconnects: e.conn.nats.Stats().Reconnects}
	defer e.unsubscribe(f)
	if err := e.subscribe(f); err != nil {
		return err
	}
	if err := e.catchUp(ctx, stream, f); err != nil {
		return err
	}
	// NATS knows from a reader that the log is in use, and the reader that NATS is alive. Nothing comes by this one.
	idle, err := e.messages(ctx, stream, f.begin, e.markSubject("0"))
	if err != nil {
		return err
	}
	defer idle.Stop()

	var beside sync.WaitGroup
	defer beside.Wait()
	reading, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, task := range []func() error{
		func() error { return e.watch(reading, back) },
		func() error { return e.rounds(reading, f) },
		func() error {
			_, err := idle.Next(jetstream.NextContext(reading))
			return err
		},
	} {
		beside.Go(func() {
			defer guard.Recover()
			cancel(task())
		})
	}
	e.failed.Store(0)
	e.own.ready()
	err = e.takeFeed(reading, f)
	if cause := context.Cause(reading); err == nil && !errors.Is(cause, context.Canceled) {
		err = cause // nil: back is closed, or ctx has ended
	}
	return err
}

// whyAll returns why this node has to read everything, nil if it has not to: because a node of a version before subjects reads the log, or
// because NATS has several servers.
func (e *session) whyAll(ctx context.Context, stream jetstream.Stream) (reason, err error) {
	if in := stream.CachedInfo().Cluster; in != nil && in.Name != "" {
		return errServers, nil
	}
	if err = noOldReader(ctx, stream); errors.Is(err, errOldNode) {
		return err, nil
	}
	return nil, err
}

// choose decides before the log is loaded whether all of it is read.
func (e *session) choose(ctx context.Context, stream jetstream.Stream) (all bool, err error) {
	reason, err := e.whyAll(ctx, stream)
	if err != nil {
		return false, err
	}
	if reason != nil {
		e.conn.lines.all.Log(e.conn.log, slog.LevelWarn, "this node reads the topics of all nodes, in spite of NATS_READ=own", slog.String("reason", reason.Error()))
		return true, nil
	}
	return false, e.publishAgain(ctx, stream)
}

// publishAgain has JetStream publish the log's messages once more.
func (e *session) publishAgain(ctx context.Context, stream jetstream.Stream) error {
	e.changing.Lock()
	defer e.changing.Unlock()
	have := stream.CachedInfo().Config
	if e.publishesAgain(have) {
		return nil
	}
	e.takeBelow(&have)
	have.RePublish = &jetstream.RePublish{Source: e.prefix + ".log.>", Destination: e.prefix + ".live.>"}
	_, err := e.js.UpdateStream(ctx, have)
	return err
}

func (e *session) publishesAgain(have jetstream.StreamConfig) bool {
	return have.RePublish != nil && have.RePublish.Destination == e.prefix+".live.>" && slices.Contains(have.Subjects, e.subject+".>")
}

// subscribe begins a feed, of what all nodes read and of the topics that are whole.
func (e *session) subscribe(f *feed) error {
	for _, subject := range []string{e.subject, e.subject + ".*." + retainedToken + ".*", e.markSubject("*")} {
		s, err := e.conn.nats.ChanSubscribe(e.live(subject), f.messages)
		if err != nil {
			return err
		}
		f.common = append(f.common, s)
	}
	e.own.mu.Lock()
	topics := slices.Collect(maps.Values(e.own.topics))
	topics = slices.DeleteFunc(topics, func(t *followed) bool { return !t.whole })
	e.own.mu.Unlock()
	return e.subscribeTo(f, topics)
}

// subscribeTo has messages of topics come that are not given up.
func (e *session) subscribeTo(f *feed, topics []*followed) (err error) {
	e.own.mu.Lock()
	defer e.own.mu.Unlock()
	for _, t := range topics {
		if t.gone {
			continue
		}
		t.unsubscribe()
		if t.sub, err = e.conn.nats.ChanSubscribe(e.live(e.eventSubject(t.digest)), f.messages); err != nil {
			return err
		}
	}
	return nil
}

// unsubscribe ends a feed. A topic that is not whole is taken up anew.
func (e *session) unsubscribe(f *feed) {
	for _, s := range f.common {
		_ = s.Unsubscribe() // it fails when the connection is closed
	}
	own := e.own
	own.mu.Lock()
	defer own.mu.Unlock()
	own.fresh = nil
	for _, t := range own.topics {
		t.unsubscribe()
		if !t.whole {
			t.from = 0
			own.fresh = append(own.fresh, t)
		}
	}
}

// catchUp reads what was stored since this node last read, up to a mark.
func (e *session) catchUp(ctx context.Context, stream jetstream.Stream, f *feed) error {
	begin, err := e.addMark(ctx, func(*mark) {})
	if err != nil {
		return err
	}
	f.begin = begin.sequence
	from, err := e.resume(ctx, stream)
	if err != nil {
		return err
	}
	defer from.Stop()
	for fresh := true; e.seen.Load() < f.begin; {
		m, err := within(ctx, from, appendTimeout)
		if err == nil {
			fresh, err = e.accept(m, fresh)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// takeFeed adds to the log what comes, until ctx ends or messages may have been missed.
func (e *session) takeFeed(ctx context.Context, f *feed) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-f.messages:
			if len(f.messages) >= cap(f.messages)-1 { // before it was taken the channel may have been full, and a message lost
				return errBehind
			}
			if e.conn.nats.Stats().Reconnects != f.reconnects {
				return errReconnect
			}
			if err := e.takeLive(f, m); err != nil {
				return err
			}
		}
	}
}

// logged is a message of the log.
type logged struct {
	subject  string
	data     []byte
	sequence uint64
	at       time.Time // of the server's clock
	store    string    // the epoch of the store into which it is copied; "": none
}

// takeLive adds a message that comes to the log.
func (e *session) takeLive(f *feed, m *nats.Msg) error {
	sequence, err := strconv.ParseUint(m.Header.Get(sequenceHeader), 10, 64)
	if err != nil {
		return fmt.Errorf("%w: it has no sequence", errBadMessage)
	}
	before, _ := strconv.ParseUint(m.Header.Get(beforeHeader), 10, 64)
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get(timeHeader))
	if err != nil {
		at = time.Now()
	}
	l := logged{m.Header.Get(subjectHeader), m.Data, sequence, at, m.Header.Get(storeHeader)}
	switch {
	case sequence <= f.begin:
		return nil
	case sequence <= e.seen.Load():
		return fmt.Errorf("%w: %d comes behind %d", errOutOfOrder, sequence, e.seen.Load())
	}
	if digest, ok := e.topicOf(l.subject); ok {
		taken, known := e.own.arrives(f, digest, sequence)
		if !taken {
			e.pass(l)
			return nil
		}
		if before > known {
			e.own.miss()
			return fmt.Errorf("%w: %d, before %d", errHole, before, sequence)
		}
	}
	err = e.takeNew(l)
	if e.isMark(l.subject) {
		e.own.passed(f, l)
	}
	return err
}

// arrives reports whether a message of a topic is taken, and up to which sequence this node has had all messages of the topic.
func (i *interest) arrives(f *feed, digest string, sequence uint64) (taken bool, known uint64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	t := i.topics[digest]
	if t == nil || t.from == 0 {
		return false, 0
	}
	known = max(f.begin, t.from, t.last)
	t.last = sequence
	return true, known
}

// passed is called when a mark of this node has been taken.
func (i *interest) passed(f *feed, l logged) {
	i.mu.Lock()
	defer i.mu.Unlock()
	m := f.mark
	if m == nil || m.subject != l.subject {
		return
	}
	f.mark = nil
	for _, t := range m.topics {
		t.from = l.sequence
	}
	close(m.came)
}

// pass goes on behind a message that this node does not take.
func (e *session) pass(l logged) {
	_, e.last, _ = decode(l.data)
	e.seen.Store(l.sequence)
	e.readBack(e.last, readBack{broker.Position{Epoch: e.log.Epoch(), Offset: l.sequence}, true})
}
