package nats

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
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
	conn     *Conn
	js       jetstream.JetStream
	log      *broker.Log
	prefix   string // of all names
	replicas int
	maxAge   time.Duration // of the stream's messages
	name     string        // of the stream
	handle   jetstream.Stream
	subject  string       // contains the epoch, so that messages of different logs never mix; more may follow it
	origin   string       // of this session, so that an append recognises its own message
	repeats  bool         // NATS recognises repeated events for long enough to repeat an append of unknown outcome
	failed   atomic.Int32 // attempts to read in a row

	own    *interest    // the topics that this node reads; nil: all
	marked atomic.Int64 // when this node last marked the log, in ns

	clock serverClock
	seen  atomic.Uint64 // sequence of the last message that is in the log
	last  author        // of that message; zero: it was not read. Used by run only

	stored   []copyOf // what the store of retained events has; while the log is loaded
	restored bool     // into the log

	changing  sync.Mutex  // held while streams are changed
	remembers atomic.Bool // NATS recognises a repeat for as long as a key lives
	copies    atomic.Bool // JetStream copies from this log into the store of retained events
	lags      atomic.Bool // it did not in time, a moment ago
	oldReader atomic.Bool // a node of the version before reads the log

	mu         sync.Mutex
	waiting    map[uint64]chan readBack // pending appends, by their number
	number     uint64
	progress   chan struct{}    // closed when a message was read; nil: nobody waits
	store      jetstream.Stream // of retained events; nil: it is not known yet, or there is none
	storeEpoch string
	silent     time.Time // since when JetStream does not answer; zero: it does
	closed     chan struct{}
}

// author identifies a message uniquely.
type author struct {
	origin string
	number uint64
}

// open makes the stream if there is none, and reads what it holds.
func open(ctx context.Context, conn *Conn, cfg LogConfig) (*session, error) {
	for renewed := false; ; renewed = true {
		e, err := openOnce(ctx, conn, cfg)
		if renewed || !errors.Is(err, errCutShort) {
			return e, err
		}
		conn.lines.lost.Log(conn.log, slog.LevelError, "the log is lost, and made anew", slog.String("error", err.Error()))
		if err := e.renew(ctx); err != nil {
			return nil, fmt.Errorf("renewing the log on NATS: %w", err)
		}
	}
}

// openOnce is open, unless the log has to be renewed.
func openOnce(ctx context.Context, conn *Conn, cfg LogConfig) (*session, error) {
	js, err := jetstream.New(conn.nats)
	if err != nil {
		return nil, fmt.Errorf("NATS JetStream: %w", err)
	}
	e := &session{
		conn: conn, js: js, origin: crand.Text(), prefix: cfg.Prefix, replicas: cfg.Replicas,
		own: cfg.own, waiting: map[uint64]chan readBack{}, closed: make(chan struct{}),
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
	e.name, e.handle, e.subject, e.maxAge = info.Config.Name, stream, subject(cfg, epoch), info.Config.MaxAge
	e.repeats = info.Config.Duplicates >= leastWindow
	e.clock.set(time.Now(), info.TimeStamp)
	broken := false
	if e.own != nil {
		all, err := e.choose(ctx, stream)
		if err != nil {
			return nil, fmt.Errorf("the log's stream on NATS: %w", err)
		}
		broken = e.own.begin(all)
	}
	if err := e.load(ctx, stream, cfg); err != nil {
		return e, fmt.Errorf("reading the log on NATS: %w", err)
	}
	if broken {
		e.log.BeginAt(e.seen.Load()) // whoever was on the log before learns that something is missing
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
	have.Duplicates = min(want.MaxAge, max(have.Duplicates, duplicatesWindow))
	return e.js.UpdateStream(ctx, have)
}

// keepAtLeast raises the wanted bounds to those of a stream that other nodes read. It reports
// whether that stream has larger bounds than were wanted.
func (e *session) keepAtLeast(have jetstream.StreamConfig, want *jetstream.StreamConfig) (larger bool) {
	larger = have.MaxBytes > want.MaxBytes || have.MaxAge > want.MaxAge || have.Replicas > want.Replicas
	want.MaxBytes, want.MaxAge, want.Replicas = max(have.MaxBytes, want.MaxBytes), max(have.MaxAge, want.MaxAge), max(have.Replicas, want.Replicas)
	return larger
}

// run reads until ctx ends, or the log does not continue where it was. It goes on while NATS
// is down.
func (e *session) run(ctx context.Context) error {
	defer close(e.closed)
	for {
		back := e.conn.back()
		read := e.read
		if e.own != nil && !e.own.isAll() {
			read = e.readOwn
		}
		err := read(ctx, back)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errLogLost), errors.Is(err, errReopen):
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
		if err == nil {
			err = e.checkStore(ctx)
		}
		if err == nil {
			e.lookAfterStore(ctx, stream)
		}
		if err == nil && e.own != nil {
			if err := e.watchOwn(ctx, stream); err != nil {
				return err
			}
		}
		if err == nil && stream.CachedInfo().Config.Duplicates < keyWindow(stream.CachedInfo().Config) {
			e.remembers.Store(false) // a node of the version before has changed it
		}
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
// the messages before do not. It is for a stream that would assign sequence numbers again. Those of
// the new log are behind all that is retained.
func (e *session) renew(ctx context.Context) error {
	copies, err := e.readStore(ctx)
	if err != nil {
		return err
	}
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
	if stream, err = e.js.UpdateStream(ctx, have); err != nil {
		return err
	}
	if n := len(copies); n > 0 && copies[n-1].at.Offset > stream.CachedInfo().State.LastSeq {
		return stream.Purge(ctx, jetstream.WithPurgeSequence(copies[n-1].at.Offset+1))
	}
	return nil
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
	e.clock.set(time.Now(), stream.CachedInfo().TimeStamp)
	if stream.CachedInfo().Config.Metadata[epochKey] != e.log.Epoch() {
		return nil, errLogLost
	}
	return stream, nil
}
