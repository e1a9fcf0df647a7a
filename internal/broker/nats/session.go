package nats

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/internal/broker"
)

const (
	// streamMargin is what the stream keeps beyond the window, so that a node
	// that lags for a moment still finds what comes next.
	streamMargin = 16 << 20

	trimInterval  = time.Second
	checkInterval = 2 * time.Second // of whether the stream is still the same
	apiTimeout    = 5 * time.Second

	epochKey = "epoch" // in the stream's metadata
)

// What ends a session: what comes next in the log is not to be had any more.
var (
	errLogLost = errors.New("the log on NATS was lost or made anew, or this node fell behind what it keeps")
	// errCutShort is a log that has lost its end: what it gives out next was given out before.
	errCutShort = fmt.Errorf("%w: its end is missing", errLogLost)
)

// session is the time with one log.
type session struct {
	conn    *Conn
	js      jetstream.JetStream
	log     *broker.Log
	name    string // of the stream
	subject string // has the epoch in it, so that nothing gets into, or is taken from, another log
	origin  string // this session's, so that a Ref comes back to its publisher alone
	seen    uint64 // sequence of the last message that is in the log; run's

	mu      sync.Mutex
	waiting map[uint64]chan broker.Position // appends, by their number
	number  uint64
	closed  chan struct{}
}

// open makes the stream if there is none, and reads what it holds.
func open(ctx context.Context, conn *Conn, cfg LogConfig) (*session, error) {
	js, err := jetstream.New(conn.nats)
	if err != nil {
		return nil, fmt.Errorf("NATS JetStream: %w", err)
	}
	e := &session{
		conn: conn, js: js, origin: rand.Text(),
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
	e.name, e.subject = info.Config.Name, subject(cfg, epoch)
	if err := e.load(ctx, stream, cfg); err != nil {
		return nil, fmt.Errorf("reading the log on NATS: %w", err)
	}
	return e, nil
}

func subject(cfg LogConfig, epoch string) string { return cfg.Prefix + ".log." + epoch }

// stream is the log's; it is made if there is none. One that is there stays as it
// is but for its bounds.
func (e *session) stream(ctx context.Context, cfg LogConfig) (jetstream.Stream, error) {
	epoch := rand.Text()[:10]
	want := jetstream.StreamConfig{
		Name: cfg.Prefix + "_log", Subjects: []string{subject(cfg, epoch)}, Storage: jetstream.FileStorage,
		MaxBytes: cfg.MaxBytes + streamMargin, MaxAge: cfg.MaxAge, Replicas: max(cfg.Replicas, 1),
		Metadata: map[string]string{epochKey: epoch},
	}
	stream, err := e.js.CreateStream(ctx, want)
	if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return stream, err
	}
	if stream, err = e.js.Stream(ctx, want.Name); err != nil {
		return nil, err
	}
	have := stream.CachedInfo().Config
	if have.Metadata[epochKey] == "" {
		return stream, nil // not ours to change
	}
	have.MaxBytes, have.MaxAge, have.Replicas = want.MaxBytes, want.MaxAge, want.Replicas
	have.Duplicates = 0 // NATS's default, which is within the age
	return e.js.UpdateStream(ctx, have)
}

// append adds to the log. JetStream has stored the event, and this node has read it
// back, before it returns.
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
	data, err := encode(p, e.origin, number)
	if err != nil {
		return broker.Position{}, err
	}
	if limit := e.conn.nats.MaxPayload(); int64(len(data)) > limit {
		return broker.Position{}, fmt.Errorf("the event takes %d bytes in the log, and a message on NATS (max_payload) at most %d: %w",
			len(data), limit, broker.ErrTooLarge)
	}
	if _, err := e.js.Publish(ctx, e.subject, data); err != nil {
		return broker.Position{}, fmt.Errorf("appending to the log on NATS: %w", err)
	}
	select {
	case at := <-mine:
		return at, nil
	case <-ctx.Done():
		return broker.Position{}, ctx.Err()
	case <-e.closed:
		return broker.Position{}, broker.ErrUnavailable
	}
}

// run reads until ctx ends, or the log does not go on where it was. It outlives NATS
// being away.
func (e *session) run(ctx context.Context) error {
	defer close(e.closed)
	var watch sync.WaitGroup
	defer watch.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch.Go(func() { e.watch(ctx, cancel) })
	for {
		err := e.read(ctx)
		switch {
		case errors.Is(context.Cause(ctx), errLogLost):
			return errLogLost
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errLogLost), errors.Is(err, errBadMessage):
			return err
		case err != nil:
			wait(ctx, reconnectWait)
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// watch drops what is too old, and notices when the stream is another one: its
// reader alone would wait for a sequence that may be long in coming.
func (e *session) watch(ctx context.Context, end context.CancelCauseFunc) {
	trim, check := time.NewTicker(trimInterval), time.NewTicker(checkInterval)
	defer trim.Stop()
	defer check.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-trim.C:
			e.log.Trim()
		case <-check.C:
			if _, err := e.current(ctx); errors.Is(err, errLogLost) {
				end(errLogLost)
				return
			}
		}
	}
}

// current is the log's stream, unless it is known to be gone or another one.
func (e *session) current(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
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
