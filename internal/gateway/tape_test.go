package gateway_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/topics"
	"ssegateway/sse"
)

// tape is a stream that records what is written to it, as far as it has room.
type tape struct {
	conn    *gateway.Conn
	chunked bool
	// forgetful keeps nothing of what is written.
	forgetful bool
	// full also keeps the heartbeat with which a stream begins if it has nothing else to
	// begin with. Otherwise that heartbeat takes no room.
	full bool

	// Guarded by mu, beside the connection's lock, so that a test may look.
	mu       sync.Mutex
	room     int // bytes it still takes
	begun    bool
	wire     []byte
	writes   []string
	times    []time.Time // of each write
	fault    gateway.Detail
	reason   gateway.Reason // what Left returns
	detail   gateway.Detail
	progress uint64 // what the client took or acknowledged
	owing    bool   // what Look returns
	closed   bool
	aborted  bool
	closedAt time.Time
}

const plenty = 1 << 30

func (s *tape) Start() gateway.Detail { return 0 }

func (s *tape) Write(p []byte) (int, gateway.Detail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		panic("a write to a closed stream")
	}
	if s.fault != 0 {
		return 0, s.fault
	}
	begins := !s.begun
	s.begun = true
	if begins && !s.full && !s.chunked && string(p) == sse.Heartbeat {
		return len(p), 0
	}
	n := min(len(p), s.room)
	s.room -= n
	if s.forgetful {
		return n, 0
	}
	s.wire = append(s.wire, p[:n]...)
	if s.full {
		s.writes = append(s.writes, string(p))
	}
	s.times = append(s.times, time.Now())
	return n, 0
}

func (s *tape) Left() (gateway.Reason, gateway.Detail) { return s.reason, s.detail }

func (s *tape) Look(uint64) (uint64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return 1 + s.progress, s.owing
}

func (s *tape) Close(abort bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		panic("a second close of a stream")
	}
	s.closed, s.aborted, s.closedAt = true, abort, time.Now()
}

func (s *tape) Chunked() bool { return s.chunked }

// set calls f under the tape's lock.
func (s *tape) set(f func(s *tape)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

// takes makes room for n more bytes, and notifies the connection.
func (s *tape) takes(n int) {
	s.set(func(s *tape) { s.room, s.progress = s.room+n, s.progress+uint64(n) })
	s.conn.Ready(s, false, true)
}

// state reports whether the stream is closed, and whether it was aborted.
func (s *tape) state() (closed, aborted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed, s.aborted
}

func (s *tape) written() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.wire)
}

// backend answers at once, or when the test makes it, and collects notices.
type backend struct {
	answer func(ctx context.Context) gateway.Answer

	mu      sync.Mutex
	notices []gateway.Notice
	times   []time.Time
}

func (b *backend) Connect(ctx, _ context.Context, _ gateway.Token, _ []byte) gateway.Answer {
	if b.answer != nil {
		return b.answer(ctx)
	}
	return accepted
}

var accepted = gateway.Answer{Outcome: gateway.Accepted, Status: 200}

func (b *backend) Disconnect(n gateway.Notice) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notices = append(b.notices, n)
	b.times = append(b.times, time.Now())
}

// ends returns the reasons of the notices so far.
func (b *backend) ends() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	ends := []string{}
	for _, n := range b.notices {
		ends = append(ends, n.Reason.String()+"/"+n.Detail.String())
	}
	return ends
}

// site is a gateway with its backend.
type site struct {
	gw     *gateway.Gateway
	topics *topics.Topics
	engine broker.Engine
	*backend
}

// newSite returns a gateway with a log of its own. Its limits are wide, except those that change
// narrows.
func newSite(change func(cfg *gateway.Config)) site {
	return siteOn(broker.NewMemory(64<<20, time.Hour), change)
}

// siteOn does the same as newSite, but with the log of an engine. Other nodes have this log too
// if the gateway is clustered.
func siteOn(engine broker.Engine, change func(cfg *gateway.Config)) site {
	cfg := gateway.Config{
		Heartbeat: time.Hour, MaxConnections: 100000, QueueBytes: 1 << 20, BudgetBytes: 1 << 27,
		Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	b := &backend{}
	cfg.Topics = topics.New(engine, cfg.Clustered)
	return site{gateway.New(cfg, b), cfg.Topics, engine, b}
}

var request = []byte(`{"url":"/stream?secret=1","headers":{}}`)

// connect returns a connection that is accepted, but still pending.
func (s site) connect(t testing.TB) *gateway.Conn {
	t.Helper()
	c, _, err := s.gw.Connect(context.Background(), request)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// open returns an open connection whose stream has room for that many bytes.
func (s site) open(t testing.TB, room int) (*gateway.Conn, *tape) {
	t.Helper()
	c := s.connect(t)
	tp := &tape{conn: c, room: room}
	if !c.Open(tp, frame.Frame{}, gateway.Grant{}) {
		t.Fatal("the connection did not open")
	}
	return c, tp
}

// run runs the gateway until the test is over, but without trimming its log by age.
func (s site) run(t *testing.T) {
	t.Cleanup(s.start())
}

// start runs the gateway until stop.
func (s site) start() (stop func()) {
	return start(s.gw, s.topics)
}

func start(gw *gateway.Gateway, all *topics.Topics) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var over sync.WaitGroup
	over.Go(func() { _ = gw.Run(ctx) })
	over.Go(func() { _ = all.Run(ctx) })
	return func() {
		cancel()
		over.Wait()
	}
}

// eventOf returns an event whose block has n bytes.
func eventOf(t testing.TB, n int) frame.Frame {
	t.Helper()
	const around = len("data: \n\n")
	if n < around {
		t.Fatalf("no event has a block of %d bytes", n)
	}
	f := frame.Event(sse.Event{Data: string(make([]byte, n-around))})
	if f.Len() != n {
		t.Fatalf("the block has %d bytes instead of %d", f.Len(), n)
	}
	return f
}

func zeros(n int) string { return string(make([]byte, n)) }

func (s site) expectEnds(t *testing.T, want ...string) {
	t.Helper()
	got := s.ends()
	if len(got) != len(want) {
		t.Fatalf("the backend was notified of the ends %q, want %q", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("the backend was notified of the ends %q, want %q", got, want)
		}
	}
}

func (s site) expectNothingLeft(t *testing.T) {
	t.Helper()
	for _, what := range s.gw.Leftovers() {
		t.Errorf("left behind: %s", what)
	}
}
