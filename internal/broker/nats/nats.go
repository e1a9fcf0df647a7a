// Package nats is the broker's engine for several nodes: the log is a stream of
// NATS JetStream, and each node keeps a window of it in memory, so that clients
// that come back all at once ask nothing of NATS.
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

// Config says which NATS, and what is kept there.
type Config struct {
	URL             string // may be several, with commas; with user and password or a token
	CredentialsFile string // of a NATS account; empty: none
	CAFile          string // certificates in PEM that the server's is checked with; empty: the system's
	Prefix          string // of all names, for several installations on one NATS; no dots, spaces or wildcards
	MaxBytes        int64  // of the window in memory
	MaxAge          time.Duration
	Replicas        int // of the stream, in a cluster of NATS servers
}

const (
	// streamMargin is what the stream keeps beyond the window, so that a node
	// that lags for a moment still finds what comes next.
	streamMargin = 16 << 20

	reconnectWait   = time.Second
	reconnectJitter = 2 * time.Second // nodes do not come back all at once
	trimInterval    = time.Second
	checkInterval   = 2 * time.Second // of whether the stream is still the same

	epochKey = "epoch" // in the stream's metadata
)

// ErrLogLost ends Run: what comes next in the log is not to be had any more, or the
// log is another one. Whoever opens the engine anew gets what there is now.
var ErrLogLost = errors.New("the log on NATS was lost or made anew, or this node fell behind what it keeps")

// Engine implements broker.Engine.
type Engine struct {
	conn     *nats.Conn
	js       jetstream.JetStream
	log      *broker.Log
	name     string // of the stream
	subject  string // has the epoch in it, so that nothing gets into, or is taken from, another log
	origin   string // this engine's, so that a Ref comes back to its publisher alone
	messages jetstream.MessagesContext
	seen     uint64 // sequence of the last message that is in the log

	mu      sync.Mutex
	waiting map[uint64]chan broker.Position // appends, by their number
	number  uint64
	closed  chan struct{}
}

// Open connects, makes the stream if there is none, and reads what it holds. Run
// has to be called then.
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	conn, err := connect(cfg)
	if err != nil {
		return nil, err
	}
	e, err := open(ctx, conn, cfg)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return e, nil
}

func connect(cfg Config) (*nats.Conn, error) {
	options := []nats.Option{
		nats.Name("ssegateway"), nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectJitter, reconnectJitter),
		nats.ReconnectBufSize(-1), // what cannot be sent fails at once
	}
	if cfg.CredentialsFile != "" {
		options = append(options, nats.UserCredentials(cfg.CredentialsFile))
	}
	if cfg.CAFile != "" {
		options = append(options, nats.RootCAs(cfg.CAFile))
	}
	conn, err := nats.Connect(cfg.URL, options...)
	if err != nil {
		return nil, fmt.Errorf("connecting to NATS: %w", err)
	}
	if err := checkVersion(conn.ConnectedServerVersion()); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// checkVersion refuses servers older than 2.11, which this is not tested with.
func checkVersion(version string) error {
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("NATS server of unknown version %q: at least 2.11 is needed", version)
	}
	if major < 2 || major == 2 && minor < 11 {
		return fmt.Errorf("NATS server %s is too old: at least 2.11 is needed", version)
	}
	return nil
}

func open(ctx context.Context, conn *nats.Conn, cfg Config) (*Engine, error) {
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, fmt.Errorf("NATS JetStream: %w", err)
	}
	e := &Engine{
		conn: conn, js: js, origin: rand.Text(),
		waiting: map[uint64]chan broker.Position{}, closed: make(chan struct{}),
	}
	stream, err := e.stream(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("the log's stream on NATS: %w", err)
	}
	info := stream.CachedInfo()
	epoch := info.Config.Metadata[epochKey]
	if epoch == "" {
		return nil, fmt.Errorf("the stream %s on NATS is not this gateway's: it has no epoch", info.Config.Name)
	}
	e.name, e.subject = info.Config.Name, subject(cfg, epoch)
	e.log = broker.NewLog(epoch, cfg.MaxBytes, cfg.MaxAge)
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return nil, fmt.Errorf("reading the log on NATS: %w", err)
	}
	if e.messages, err = consumer.Messages(); err != nil {
		return nil, fmt.Errorf("reading the log on NATS: %w", err)
	}
	if err := e.load(ctx, info.State); err != nil {
		e.messages.Stop()
		return nil, fmt.Errorf("reading the log on NATS: %w", err)
	}
	return e, nil
}

func subject(cfg Config, epoch string) string { return cfg.Prefix + ".log." + epoch }

// stream is the log's; it is made if there is none. One that is there stays as it
// is but for its bounds.
func (e *Engine) stream(ctx context.Context, cfg Config) (jetstream.Stream, error) {
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
	want.Metadata, want.Subjects = have.Metadata, have.Subjects
	return e.js.UpdateStream(ctx, want)
}

// load reads up to where the stream was.
func (e *Engine) load(ctx context.Context, state jetstream.StreamState) error {
	if state.Msgs == 0 {
		e.seen = state.LastSeq
		e.log.BeginAt(state.LastSeq)
		return nil
	}
	defer context.AfterFunc(ctx, e.messages.Stop)()
	for first := true; e.seen < state.LastSeq; first = false {
		m, err := e.messages.Next()
		if err != nil {
			return errors.Join(ctx.Err(), err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if first {
			e.seen = meta.Sequence.Stream - 1
			e.log.BeginAt(e.seen)
		}
		if err := e.take(m); err != nil {
			return err
		}
	}
	return nil
}

// Log implements broker.Engine.
func (e *Engine) Log() *broker.Log { return e.log }

// Append implements broker.Engine. JetStream has stored the event, and this node
// has read it back, before it returns.
func (e *Engine) Append(ctx context.Context, p broker.Publication) (broker.Position, error) {
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
		return broker.Position{}, broker.ErrClosed
	default:
	}
	data, err := encode(p, e.origin, number)
	if err != nil {
		return broker.Position{}, err
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
		return broker.Position{}, broker.ErrClosed
	}
}

// Run implements broker.Engine. It outlives NATS being away; it ends with
// ErrLogLost when the log does not go on where it was.
func (e *Engine) Run(ctx context.Context) error {
	defer e.conn.Close()
	defer e.log.Close()
	defer close(e.closed)
	var watch sync.WaitGroup
	defer watch.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch.Go(func() { e.watch(ctx, cancel) })
	defer e.messages.Stop()
	defer context.AfterFunc(ctx, e.messages.Stop)()
	for {
		m, err := e.messages.Next()
		if errors.Is(context.Cause(ctx), ErrLogLost) {
			return ErrLogLost
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrLogLost, err)
		}
		if err := e.take(m); err != nil {
			return err
		}
	}
}

// watch drops what is too old, and notices when the stream is another one: its
// reader alone would wait for a sequence that may be long in coming.
func (e *Engine) watch(ctx context.Context, end context.CancelCauseFunc) {
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
			if e.replaced(ctx) {
				end(ErrLogLost)
				return
			}
		}
	}
}

// replaced says whether the log's stream is known to be gone or another one.
func (e *Engine) replaced(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, checkInterval)
	defer cancel()
	stream, err := e.js.Stream(ctx, e.name)
	if err != nil {
		return errors.Is(err, jetstream.ErrStreamNotFound)
	}
	return stream.CachedInfo().Config.Metadata[epochKey] != e.log.Epoch()
}

// take puts the next message into the log.
func (e *Engine) take(m jetstream.Msg) error {
	meta, err := m.Metadata()
	if err != nil {
		return fmt.Errorf("a message in the log on NATS: %w", err)
	}
	if m.Subject() != e.subject || meta.Sequence.Stream != e.seen+1 {
		return fmt.Errorf("%w: %d comes behind %d", ErrLogLost, meta.Sequence.Stream, e.seen)
	}
	e.seen = meta.Sequence.Stream
	p, origin, number, err := decode(m.Data())
	if err != nil {
		return fmt.Errorf("message %d in the log on NATS: %w", e.seen, err)
	}
	if origin != e.origin {
		p.Ref = 0
	}
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
