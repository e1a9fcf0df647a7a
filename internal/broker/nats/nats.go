// Package nats is the broker's engine for several nodes: the log is a stream of
// NATS JetStream, and each node keeps a window of it in memory, so that clients
// that come back all at once ask nothing of NATS.
package nats

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
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
	apiTimeout      = 5 * time.Second

	epochKey = "epoch" // in the stream's metadata
)

// ErrLogLost ends Run: what comes next in the log is not to be had any more, or the
// log is another one. Whoever opens the engine anew gets what there is now.
var ErrLogLost = errors.New("the log on NATS was lost or made anew, or this node fell behind what it keeps")

// Engine implements broker.Engine.
type Engine struct {
	conn    *nats.Conn
	js      jetstream.JetStream
	log     *broker.Log
	name    string          // of the stream
	subject string          // has the epoch in it, so that nothing gets into, or is taken from, another log
	origin  string          // this engine's, so that an append knows its own message
	again   <-chan struct{} // the connection was lost and is there again
	seen    uint64          // sequence of the last message that is in the log; Run's

	mu      sync.Mutex
	waiting map[uint64]chan broker.Position // appends, by their number
	number  uint64
	closed  chan struct{}
}

// Open connects, makes the stream if there is none, and reads what it holds. Run
// has to be called then.
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	again := make(chan struct{}, 1)
	conn, err := connect(cfg, again)
	if err != nil {
		return nil, err
	}
	e, err := open(ctx, conn, cfg)
	if err != nil {
		conn.Close()
		return nil, err
	}
	e.again = again
	return e, nil
}

func connect(cfg Config, again chan<- struct{}) (*nats.Conn, error) {
	options := []nats.Option{
		nats.Name("ssegateway"), nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectJitter, reconnectJitter),
		nats.ReconnectBufSize(-1), // what cannot be sent fails at once
		nats.ReconnectHandler(func(*nats.Conn) {
			select {
			case again <- struct{}{}:
			default: // it is known already
			}
		}),
	}
	if cfg.CredentialsFile != "" {
		options = append(options, nats.UserCredentials(cfg.CredentialsFile))
	}
	if cfg.CAFile != "" {
		options = append(options, nats.RootCAs(cfg.CAFile))
	}
	conn, err := nats.Connect(cfg.URL, options...)
	if wrong := (*url.Error)(nil); errors.As(err, &wrong) {
		err = wrong.Err // without the URL, which may have a password
	}
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
	have.MaxBytes, have.MaxAge, have.Replicas = want.MaxBytes, want.MaxAge, want.Replicas
	have.Duplicates = 0 // NATS's default, which is within the age
	return e.js.UpdateStream(ctx, have)
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
	if limit := e.conn.MaxPayload(); int64(len(data)) > limit {
		return broker.Position{}, fmt.Errorf("the event takes %d bytes in the log, and a message on NATS (max_payload) at most %d: %w",
			len(data), limit, nats.ErrMaxPayload)
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
	for {
		err := e.read(ctx)
		if errors.Is(context.Cause(ctx), ErrLogLost) {
			return ErrLogLost
		}
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, ErrLogLost) || errors.Is(err, errBadMessage) {
			return err
		}
		if e.conn.IsClosed() { // by the library, when it is refused again and again
			return fmt.Errorf("the connection to NATS is closed: %w", errors.Join(nats.ErrConnectionClosed, e.conn.LastError()))
		}
		if err != nil {
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
			if _, err := e.current(ctx); errors.Is(err, ErrLogLost) {
				end(ErrLogLost)
				return
			}
		}
	}
}

// current is the log's stream, unless it is known to be gone or another one.
func (e *Engine) current(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	stream, err := e.js.Stream(ctx, e.name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, ErrLogLost
	}
	if err != nil {
		return nil, err
	}
	if stream.CachedInfo().Config.Metadata[epochKey] != e.log.Epoch() {
		return nil, ErrLogLost
	}
	return stream, nil
}
