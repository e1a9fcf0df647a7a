package nats

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"go.uber.org/goleak"

	"ssegateway/internal/broker"
	"ssegateway/internal/broker/brokertest"
	"ssegateway/sse"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// serve runs a NATS server with a file store.
func serve(t testing.TB, options server.Options) *server.Server {
	t.Helper()
	options.JetStream = true
	return start(t, options)
}

func start(t testing.TB, options server.Options) *server.Server {
	t.Helper()
	options.Host, options.NoSigs, options.NoLog = "127.0.0.1", true, true
	s, err := server.NewServer(&options)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(patience) {
		t.Fatal("the NATS server is not ready")
	}
	return s
}

// place is where a log is.
type place struct {
	Config
	LogConfig
}

func at(url string) place {
	return place{
		Config{URL: url, Log: slog.New(slog.DiscardHandler)},
		LogConfig{Prefix: "x", MaxBytes: 1 << 20, MaxAge: time.Hour, RetainedBytes: 1 << 20},
	}
}

// tryOpen opens a log once.
func tryOpen(t testing.TB, cfg place) (*session, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := Dial(cfg.Config)
	if err != nil {
		return nil, err
	}
	t.Cleanup(conn.Close)
	return open(ctx, conn, cfg.LogConfig)
}

func mustOpen(t testing.TB, cfg place) *session {
	t.Helper()
	e, err := tryOpen(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func run(t testing.TB, e *session) <-chan error {
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		over <- e.run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return over
}

func publish(t testing.TB, e *session, text string) broker.Position {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p, err := e.append(ctx, broker.Publication{Topics: []string{"a", "b"}, Event: sse.Event{Data: text}, Store: true, Ref: 7})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func next(t testing.TB, tailer *broker.Tailer) *broker.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r := tailer.Next(ctx)
	if r == nil {
		t.Fatal("no record")
	}
	return r
}

func TestEngine(t *testing.T) {
	runSuite(t, func(t testing.TB, cfg place) broker.Engine { return mustEngine(t, cfg) })
}

// TestSelective is TestEngine for one that reads only what is followed. Each topic is followed as late as possible: before
// it is published on.
func TestSelective(t *testing.T) {
	runSuite(t, func(t testing.TB, cfg place) broker.Engine { return following{mustSelective(t, cfg)} })
}

func runSuite(t *testing.T, open func(t testing.TB, cfg place) broker.Engine) {
	t.Helper()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	brokertest.Run(t, brokertest.Suite{Open: func(t testing.TB, bounds brokertest.Bounds) broker.Engine {
		cfg := at(s.ClientURL())
		cfg.Prefix = strings.NewReplacer("/", "_").Replace(t.Name()) + rand.Text()
		cfg.MaxBytes, cfg.MaxAge, cfg.RetainedBytes = bounds.MaxBytes, bounds.MaxAge, bounds.RetainedBytes
		return open(t, cfg)
	}})
}

// following follows the topics of each event that it appends.
type following struct{ Selective }

func (f following) Append(ctx context.Context, p broker.Publication) (broker.Position, error) {
	release, err := f.Follow(ctx, p.Topics, 0)
	if err != nil {
		return broker.Position{}, err
	}
	defer release()
	return f.Selective.Append(ctx, p)
}

// mustEngine returns an engine whose log is open.
func mustEngine(t testing.TB, cfg place) *Engine {
	t.Helper()
	return opened(t, NewEngine(mustDial(t, cfg), cfg.LogConfig))
}

// mustSelective is mustEngine for a Selective.
func mustSelective(t testing.TB, cfg place) Selective {
	t.Helper()
	return opened(t, NewSelective(mustDial(t, cfg), cfg.LogConfig))
}

func mustDial(t testing.TB, cfg place) *Conn {
	t.Helper()
	conn, err := Dial(cfg.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

func opened[E interface {
	Open(ctx context.Context) error
}](t testing.TB, e E) E {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := e.Open(ctx); err != nil {
		t.Fatal(err)
	}
	return e
}

// What one node appends every node has, at the same position, also one that comes
// later, and the Ref.
func TestNodesHaveOneLog(t *testing.T) {
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	cfg := at(s.ClientURL())
	a, b := mustOpen(t, cfg), mustOpen(t, cfg)
	run(t, a)
	run(t, b)
	ta, _ := a.log.Tail()
	tb, _ := b.log.Tail()
	var positions []broker.Position
	for _, e := range []*session{a, b, a} {
		positions = append(positions, publish(t, e, "x"))
		ra, rb := next(t, ta), next(t, tb)
		if !slices.Equal(ra.Frame.Wire(false), rb.Frame.Wire(false)) || ra.Offset != rb.Offset {
			t.Errorf("%+v on one node, %+v on the other", ra, rb)
		}
		if ra.Ref != 7 || rb.Ref != 7 {
			t.Errorf("the ref is %d on one node, %d on the other", ra.Ref, rb.Ref)
		}
	}
	late := mustOpen(t, cfg)
	run(t, late)
	missed, reaches := late.log.Missed(positions[0].Offset, positions[2].Offset, []string{"a", "b"}, 10)
	if len(missed) != 2 || !reaches || missed[1].Offset != positions[2].Offset || late.log.Epoch() != positions[0].Epoch {
		t.Errorf("a node that comes later has %d of 2 records, reaches: %v", len(missed), reaches)
	}
}

// The log outlives its server, and the engine the server's absence: appending
// fails while it lasts, and goes on behind the last position.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := serve(t, server.Options{Port: -1, StoreDir: dir})
	relay := newRelay(t, s)
	e := mustOpen(t, at(relay.url()))
	run(t, e)
	tailer, _ := e.log.Tail()
	before := publish(t, e, "1")
	next(t, tailer)
	s.Shutdown()
	s.WaitForShutdown()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := e.append(ctx, broker.Publication{Topics: []string{"a"}, Store: true}); err == nil {
		t.Error("appended without a server")
	}
	status := e.conn.nats.StatusChanged(nats.CONNECTED)
	relay.to(serve(t, server.Options{Port: -1, StoreDir: dir}))
	select {
	case <-status:
	case <-time.After(patience):
		t.Fatal("not connected again")
	}
	after := publish(t, e, "2")
	if after.Epoch != before.Epoch || after.Offset != before.Offset+1 || next(t, tailer).Offset != after.Offset {
		t.Errorf("%v comes behind %v", after, before)
	}
}

// A stream that is made anew is another log: nothing of it is taken for this one's.
// It is on a server of its own, as if the first had lost its disk.
func TestStreamMadeAnew(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	relay := newRelay(t, s)
	cfg := at(relay.url())
	e := mustOpen(t, cfg)
	over := run(t, e)
	publish(t, e, "1")

	anew := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	cfg.URL = anew.ClientURL()
	other := mustOpen(t, cfg)
	run(t, other)
	for range 3 {
		if p := publish(t, other, "2"); p.Epoch == e.log.Epoch() {
			t.Errorf("another log has the same epoch: %v", p)
		}
	}
	relay.to(anew)
	s.Shutdown()
	s.WaitForShutdown()
	ends(t, over, errLogLost)
	if stats := e.log.Stats(); stats.Records != 1 {
		t.Errorf("%d records, want the one that is this log's", stats.Records)
	}
}

// A stream that is deleted ends Run, though nothing comes that would tell.
func TestStreamDeleted(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	e := mustOpen(t, at(s.ClientURL()))
	over := run(t, e)
	publish(t, e, "1")
	if err := e.js.DeleteStream(t.Context(), e.name); err != nil {
		t.Fatal(err)
	}
	ends(t, over, errLogLost)
}

// relay is an address that stays while the server behind it restarts: a port given
// up meanwhile may be somebody else's.
type relay struct {
	net.Listener

	clients sync.Map // connections
	target  atomic.Pointer[string]
	hung    atomic.Bool // nothing reaches the server, and the connections stay
	group   sync.WaitGroup
}

func newRelay(t testing.TB, s *server.Server) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{Listener: l}
	r.to(s)
	r.group.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			r.group.Go(func() { r.relay(client) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		r.group.Wait()
	})
	return r
}

func (r *relay) url() string { return "nats://" + r.Addr().String() }

func (r *relay) to(s *server.Server) {
	address := s.Addr().String()
	r.target.Store(&address)
}

// cut ends the connections of now.
func (r *relay) cut() {
	r.clients.Range(func(client, _ any) bool {
		_ = client.(net.Conn).Close() //nolint:forcetypeassert // the map has no other type
		return true
	})
}

func (r *relay) relay(client net.Conn) {
	defer func() { _ = client.Close() }()
	r.clients.Store(client, nil)
	defer r.clients.Delete(client)
	s, err := net.Dial("tcp", *r.target.Load())
	if err != nil {
		return
	}
	defer func() { _ = s.Close() }()
	var back sync.WaitGroup
	defer back.Wait()
	back.Go(func() {
		defer func() { _ = client.Close() }()
		_, _ = io.Copy(client, s)
	})
	defer func() { _ = s.Close() }()
	for b := make([]byte, 1<<16); ; {
		n, err := client.Read(b)
		if err != nil {
			return
		}
		if !r.hung.Load() {
			_, _ = s.Write(b[:n])
		}
	}
}

func TestVersion(t *testing.T) {
	for version, good := range map[string]bool{"2.9.10": false, "2.10.29": false, "2.11.0": true, "2.12.1": true, "3.0.0": true, "1.20.0": false, "": false} {
		if err := checkVersion(version); (err == nil) != good {
			t.Errorf("%q: %v", version, err)
		}
	}
}
