package nats

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/internal/broker"
)

const (
	// streamMargin is what the stream keeps beyond the window, so that a node
	// that lags for a moment still finds what comes next.
	streamMargin = 16 << 20

	checkInterval = 2 * time.Second // between checks that the stream is still the same
	apiTimeout    = 5 * time.Second
	answerTimeout = time.Second // of a stream that has a leader
	firstTimeout  = time.Second // of the reader's first requests in a row: NATS may leave them unanswered while a leader is elected
	firstRequests = 10          // a leader is elected in 4 to 9 s

	attemptTimeout   = time.Second            // of one attempt to append
	firstRepeat      = 100 * time.Millisecond // before the next, doubled up to lastRepeat
	lastRepeat       = 500 * time.Millisecond
	duplicatesWindow = 30 * time.Second  // for which NATS recognises a repeated event
	leastWindow      = 2 * appendTimeout // the shortest with which an append may be repeated

	epochKey = "epoch" // in the stream's metadata
)

// Errors that end a session: the next messages of the log are no longer available.
var (
	errLogLost = errors.New("the log on NATS was lost or made anew, or this node fell behind what it keeps")
	// errCutShort means that the log has lost its end, so that NATS assigns sequence numbers
	// again that it has assigned before.
	errCutShort = fmt.Errorf("%w: it lost events that it had acknowledged", errLogLost)
)

// session is the use of one log, from its opening until it is lost.
type session struct {
	conn    *Conn
	js      jetstream.JetStream
	log     *broker.Log
	name    string       // of the stream
	subject string       // contains the epoch, so that messages of different logs never mix
	origin  string       // of this session, so that an append recognises its own message
	repeats bool         // NATS recognises repeated events for long enough to repeat an append of unknown outcome
	failed  atomic.Int32 // attempts to read in a row

	seen atomic.Uint64 // sequence of the last message that is in the log
	last author        // of that message; zero: it was not read. Used by run only

	mu      sync.Mutex
	waiting map[uint64]chan broker.Position // pending appends, by their number
	number  uint64
	silent  time.Time // since when JetStream does not answer; zero: it does
	closed  chan struct{}
}

// author identifies a message uniquely.
type author struct {
	origin string
	number uint64
}

// open makes the stream if there is none, and reads what it holds.
func open(ctx context.Context, conn *Conn, cfg LogConfig) (*session, error) {
	js, err := jetstream.New(conn.nats)
	if err != nil {
		return nil, fmt.Errorf("NATS JetStream: %w", err)
	}
	e := &session{
		conn: conn, js: js, origin: crand.Text(),
		waiting: map[uint64]chan broker.Position{}, closed: make(chan struct{}),
	}
	stream, err := e.stream(ctx, cfg)
	if errors.Is(err, nats.ErrNoResponders) {
		err = jetstream.ErrJetStreamNotEnabled
	}
	if err != nil {
		return nil, fmt.Errorf("the log's stream on NATS: %w", err)
	}
	info := stream.CachedInfo()
	epoch := info.Config.Metadata[epochKey]
	if epoch == "" {
		return nil, fmt.Errorf("the stream %s on NATS is not this gateway's: it has no epoch", info.Config.Name)
	}
	e.name, e.subject, e.repeats = info.Config.Name, subject(cfg, epoch), info.Config.Duplicates >= leastWindow
	if err := e.load(ctx, stream, cfg); err != nil {
		return nil, fmt.Errorf("reading the log on NATS: %w", err)
	}
	return e, nil
}

func subject(cfg LogConfig, epoch string) string { return cfg.Prefix + ".log." + epoch }

// stream returns the log's stream, and creates it if there is none. The settings of an existing
// stream stay, except for its bounds, which are not reduced while another node reads it.
func (e *session) stream(ctx context.Context, cfg LogConfig) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	epoch := broker.NewEpoch()
	want := jetstream.StreamConfig{
		Name: cfg.Prefix + "_log", Subjects: []string{subject(cfg, epoch)}, Storage: jetstream.FileStorage,
		MaxBytes: cfg.MaxBytes + streamMargin, MaxAge: cfg.MaxAge, Replicas: max(cfg.Replicas, 1),
		Duplicates: min(cfg.MaxAge, duplicatesWindow), Metadata: map[string]string{epochKey: epoch},
	}
	stream, err := e.js.CreateStream(ctx, want)
	if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return stream, err
	}
	if stream, err = e.js.Stream(ctx, want.Name); err != nil {
		return nil, err
	}
	have := stream.CachedInfo().Config
	if have.Metadata[epochKey] == "" { // not ours to change
		return stream, nil
	}
	if stream.CachedInfo().State.Consumers > 0 && e.keepAtLeast(have, &want) {
		e.conn.log.Info("the log on NATS stays larger than this node's settings: other nodes use it",
			"bytes", want.MaxBytes-streamMargin, "seconds", int64(want.MaxAge/time.Second), "replicas", want.Replicas)
	}
	if have.MaxBytes == want.MaxBytes && have.MaxAge == want.MaxAge && have.Replicas == want.Replicas {
		return stream, nil
	}
	have.MaxBytes, have.MaxAge, have.Replicas = want.MaxBytes, want.MaxAge, want.Replicas
	have.Duplicates = min(want.MaxAge, duplicatesWindow)
	return e.js.UpdateStream(ctx, have)
}

// keepAtLeast raises the wanted bounds to those of a stream that other nodes read. It reports
// whether that stream has larger bounds than were wanted.
func (e *session) keepAtLeast(have jetstream.StreamConfig, want *jetstream.StreamConfig) (larger bool) {
	larger = have.MaxBytes > want.MaxBytes || have.MaxAge > want.MaxAge || have.Replicas > want.Replicas
	want.MaxBytes, want.MaxAge, want.Replicas = max(have.MaxBytes, want.MaxBytes), max(have.MaxAge, want.MaxAge), max(have.Replicas, want.Replicas)
	return larger
}

// append adds an event to the log. It returns when JetStream has stored the event and this
// node has read it back.
func (e *session) append(ctx context.Context, p broker.Publication) (broker.Position, error) {
	mine := make(chan broker.Position, 1)
	e.mu.Lock()
	e.number++
	number := e.number
	e.waiting[number] = mine
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.waiting, number)
	}()

	select {
	case <-e.closed:
		return broker.Position{}, broker.ErrUnavailable
	default:
	}
	data, err := encode(p, author{e.origin, number})
	if err != nil {
		return broker.Position{}, err
	}
	if limit := e.conn.nats.MaxPayload(); int64(len(data)) > limit {
		return broker.Position{}, fmt.Errorf("the event takes %d bytes in the log, and a message on NATS (max_payload) at most %d: %w",
			len(data), limit, broker.ErrTooLarge)
	}
	if at, read, err := e.store(ctx, data, number, mine); err != nil || read {
		return at, err
	}
	ctx, cancel := e.conn.linked(ctx)
	defer cancel()
	select {
	case at := <-mine:
		return at, nil
	case <-ctx.Done():
		return broker.Position{}, fmt.Errorf("%w: reading the event back: %w", broker.ErrUnavailable, context.Cause(ctx))
	case <-e.closed:
		return broker.Position{}, broker.ErrUnavailable
	}
}

// store stores an event in JetStream. It stops early if this node reads the event back first.
// While a leader is elected, or the connected server is gone, it tries again. NATS recognises
// the event by its id, so that it is stored once.
func (e *session) store(ctx context.Context, data []byte, number uint64, mine <-chan broker.Position) (at broker.Position, read bool, err error) {
	options := []jetstream.PublishOpt{jetstream.WithRetryAttempts(0)}
	if e.repeats {
		options = append(options, jetstream.WithMsgID(e.origin+"-"+strconv.FormatUint(number, 10)))
	}
	for repeat := firstRepeat; ; repeat = min(2*repeat, lastRepeat) {
		err := e.attempt(ctx, data, options)
		if err == nil {
			return at, false, nil
		}
		err = fmt.Errorf("%w: appending to the log on NATS: %w", broker.ErrUnavailable, err)
		if !e.repeats || !mayPass(err) || e.conn.gone() {
			return at, false, err
		}
		select {
		case at := <-mine:
			return at, true, nil
		case <-ctx.Done():
			return at, false, err
		case <-e.closed:
			return at, false, broker.ErrUnavailable
		case <-time.After(repeat/2 + rand.N(repeat)): //nolint:gosec // to spread, not to hide
		}
	}
}

// attempt tries once to append.
func (e *session) attempt(ctx context.Context, data []byte, options []jetstream.PublishOpt) error {
	timeout := appendTimeout
	if e.repeats {
		timeout = attemptTimeout
	}
	ctx, timedOut := context.WithTimeout(ctx, timeout)
	defer timedOut()
	ctx, cancel := e.conn.linked(ctx)
	defer cancel()
	_, err := e.js.Publish(ctx, e.subject, data, options...)
	return err
}

// mayPass reports whether an append failed because there was no leader or no connection.
func mayPass(err error) bool {
	return errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrDisconnected)
}

// run reads until ctx ends, or the log does not continue where it was. It goes on while NATS
// is down.
func (e *session) run(ctx context.Context) error {
	defer close(e.closed)
	for {
		back := e.conn.back()
		err := e.read(ctx, back)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errLogLost):
			return err
		case err != nil:
			e.failed.Add(1)
			pause(ctx, back)
		}
	}
}

// timeout returns the timeout of the reader's next request.
func (e *session) timeout() time.Duration {
	if e.failed.Load() < firstRequests {
		return firstTimeout
	}
	return apiTimeout
}

// watch checks until ctx ends that the stream is still the same. The reader alone would not
// notice: it waits for the next sequence, however long that takes. watch returns nil when
// back is closed.
func (e *session) watch(ctx context.Context, back <-chan struct{}) error {
	check := time.NewTicker(checkInterval)
	defer check.Stop()
	for short := false; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-back:
			return nil
		case <-check.C:
		}
		seen := e.seen.Load()
		stream, err := e.current(ctx)
		e.heard(err)
		switch {
		case errors.Is(err, errLogLost):
			return err
		case err != nil: // it is away, or has no leader now
		case stream.CachedInfo().State.LastSeq >= seen:
			short = false
		case short:
			return fmt.Errorf("%w: it ends at %d, before %d", errCutShort, stream.CachedInfo().State.LastSeq, seen)
		default:
			short = true // a new leader may not have all messages yet
		}
	}
}

// heard records whether JetStream answered.
func (e *session) heard(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil {
		e.silent = time.Time{}
	} else if e.silent.IsZero() {
		e.silent = time.Now()
	}
}

func (e *session) silentSince() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.silent
}

// renew gives the stream another epoch: what is appended from now on belongs to a new log, and
// the messages before do not. It is for a stream that would assign sequence numbers again.
func (e *session) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	stream, err := e.current(ctx)
	if errors.Is(err, errLogLost) {
		return nil // another node was first
	}
	if err != nil {
		return err
	}
	have, epoch := stream.CachedInfo().Config, broker.NewEpoch()
	have.Metadata[epochKey], have.Subjects = epoch, []string{strings.TrimSuffix(e.subject, e.log.Epoch()) + epoch}
	_, err = e.js.UpdateStream(ctx, have)
	return err
}

// answers reports whether the stream exists, has a leader, and is the log's.
func (e *session) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	_, err := e.current(ctx)
	return err == nil
}

// current returns the log's stream, or errLogLost if that is gone or replaced.
func (e *session) current(ctx context.Context) (jetstream.Stream, error) {
	if e.conn.Away() > 0 {
		return nil, broker.ErrUnavailable
	}
	ctx, cancel := context.WithTimeout(ctx, e.timeout())
	defer cancel()
	stream, err := e.js.Stream(ctx, e.name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, errLogLost
	}
	if err != nil {
		return nil, err
	}
	if stream.CachedInfo().Config.Metadata[epochKey] != e.log.Epoch() {
		return nil, errLogLost
	}
	return stream, nil
}
