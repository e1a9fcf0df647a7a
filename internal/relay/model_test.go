package relay

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/api"
	"ssegateway/internal/broker"
	"ssegateway/internal/bubble"
	"ssegateway/internal/callback"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
)

var (
	modelN    = flag.Int("relay.n", 20000, "how many random steps TestModel takes")
	modelSeed = flag.Uint64("relay.seed", 0, "the seed of TestModel's first round; 0 for a random one")
)

// TestModel asks for answers, leaves them and comes back, at random, with fast and slow clients, while the backend writes
// them, ends them, breaks off, and stops them, and while the gateway drains. Each client checks what it gets: each answer
// whole, each event once and in order, or it is told that the answer is gone, and only where that is so. Each answer checks
// that it is cancelled when it has to be. In the end nothing is left of it.
func TestModel(t *testing.T) {
	seed := *modelSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	defer func() {
		if t.Failed() {
			t.Logf("to repeat: -run '^TestModel$' -relay.n=1 -relay.seed=%d", seed)
		}
	}()
	for n := 0; n < *modelN && !t.Failed(); {
		bubble.Test(t, func(t *testing.T) {
			m := newModel(t, seed)
			m.run()
			n += int(m.steps.Load())
		})
		if !t.Failed() {
			seed++
		}
	}
}

// model is a gateway with its clients and the application.
type model struct {
	t        *testing.T
	seed     uint64
	random   *rand.Rand
	gw       *gateway.Gateway
	relay    *Relay
	resume   time.Duration
	pressure bool // answers are kept no more for lack of room
	steps    atomic.Int64
	drained  atomic.Bool
	clients  sync.WaitGroup
	writers  sync.WaitGroup // of the application

	mu      sync.Mutex
	apps    map[string]*app // by the key of the answer
	randoms uint64          // sources of random numbers so far
}

// promptly is how soon the backend has to be cancelled.
const promptly = 100 * time.Millisecond

func newModel(t *testing.T, seed uint64) *model {
	m := &model{t: t, random: rand.New(rand.NewPCG(seed, 1)), apps: map[string]*app{}, seed: seed} //nolint:gosec // reproducible
	m.resume = time.Duration(m.random.IntN(4)) * time.Second
	m.pressure = m.random.IntN(3) == 0
	cfg := gateway.Config{Heartbeat: time.Second, MaxConnections: 1000, QueueBytes: 1 << 20, BudgetBytes: 1 << 30, Log: slog.New(slog.DiscardHandler)}
	rc := Config{AnswerBytes: 1 << 30, BudgetBytes: 1 << 40}
	if m.pressure {
		cfg.MaxConnections = 2 + m.random.IntN(10)
		rc.AnswerBytes = 500 << m.random.IntN(8)
		rc.BudgetBytes = 2 * rc.AnswerBytes
	}
	m.gw = gateway.New(cfg, noBackend{})
	rc.Forwarder, rc.Paths, rc.Gateway, rc.Streams, rc.MaxBlock, rc.MaxBody = (*modelApps)(m), []string{""}, m.gw, (*modelStreams)(m), 1<<20, 1<<20
	rc.Position = func() broker.Position { return broker.Position{Epoch: "e", Offset: 1} }
	rc.Trusts = func(netip.Addr) bool { return false }
	rc.Peer = func(*http.Request) netip.Addr { return netip.Addr{} }
	rc.LastEventID = func(r *http.Request) string { return r.Header.Get("Last-Event-ID") }
	rc.SameAddress = func(a, b netip.Addr) bool { return a == b }
	rc.Encode = func(r *http.Request) ([]byte, bool) { return callback.EncodeRequest(r, netip.Addr{}) }
	rc.Refuse = func(w http.ResponseWriter, _ *http.Request, e *api.Error) { e.Write(w) }
	rc.Reject = func(w http.ResponseWriter, _ *http.Request, _ []byte, err error) {
		if !errors.Is(err, gateway.ErrFull) && !errors.Is(err, gateway.ErrDraining) {
			t.Errorf("rejected: %v", err)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	rc.Log = slog.New(slog.DiscardHandler)
	m.relay = New(rc)
	m.gw.SetSpare(m.relay.Spare)
	return m
}

// split returns a source of random numbers for a goroutine.
func (m *model) split() *rand.Rand {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.randoms++
	return rand.New(rand.NewPCG(m.randoms, m.seed)) //nolint:gosec // reproducible
}

func (m *model) run() {
	ctx, cancel := context.WithCancel(context.Background())
	var background sync.WaitGroup
	background.Go(func() { _ = m.gw.Run(ctx) })
	for range 1 + m.random.IntN(4) {
		m.clients.Go(m.asker(m.split()))
	}
	if m.random.IntN(4) == 0 {
		at := time.Duration(m.random.IntN(5000)) * time.Millisecond
		m.clients.Go(func() {
			time.Sleep(at)
			m.drained.Store(true)
			m.gw.Drain(0, 20*time.Second)
		})
	}
	m.clients.Wait()
	time.Sleep(m.resume + promptly)
	synctest.Wait()
	m.mu.Lock()
	for _, a := range m.apps {
		a.check()
		if a.running() {
			m.t.Errorf("an answer goes on without a reader, %v after the last one left", m.resume+promptly)
		}
	}
	m.mu.Unlock()
	time.Sleep(m.resume)
	synctest.Wait()
	if s := m.relay.Stats(); s.Kept != 0 || s.Bytes != 0 || s.Alone != 0 || m.relay.Backends() != 0 {
		m.t.Errorf("left behind: %+v, %d connections to the backend", s, m.relay.Backends())
	}
	if s := m.gw.Stats(); s.Open.Load()+s.Pending.Load() != 0 || len(m.gw.List(gateway.Filter{}, gateway.Token{}, 10)) != 0 {
		m.t.Errorf("left behind: %d open, %d pending", s.Open.Load(), s.Pending.Load())
	}
	m.writers.Wait()
	m.relay.Wait()
	m.gw.Drain(0, time.Second)
	cancel()
	background.Wait()
}

type noBackend struct{}

func (noBackend) Connect(context.Context, context.Context, gateway.Token, []byte) gateway.Answer {
	return gateway.Answer{}
}
func (noBackend) Disconnect(gateway.Notice) {}

// modelStreams opens sockets of all kinds.
type modelStreams model

func (m *modelStreams) OpenAs(w http.ResponseWriter, r *http.Request, c *gateway.Conn, g gateway.Grant) {
	rec, _ := w.(*recorder)
	random := (*model)(m).split()
	s := newSocket(c, random.IntN(2) == 0, random.IntN(2) == 0, 1<<random.IntN(16))
	rec.socket, rec.status = s, http.StatusOK
	key, _, _ := strings.Cut(rec.header.Get(resumeField), ".")
	a := (*model)(m).app(r, key)
	a.came()
	s.gone = sync.OnceFunc(a.left)
	if !c.Open(s, frame.Frame{}, g) {
		s.mu.Lock()
		s.closed, s.aborted = true, true
		s.mu.Unlock()
		s.gone()
	}
}

// app returns the answer that a request is for, which may be the one that has asked for it.
func (m *model) app(r *http.Request, key string) *app {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a, ok := askers.Load(r); ok {
		asked, _ := a.(*app)
		m.apps[key] = asked
		if key == "" {
			m.apps[fmt.Sprint("without a key ", len(m.apps))] = asked
		}
		return asked
	}
	return m.apps[key]
}

// app is an answer as the application writes it.
type app struct {
	m      *model
	ctx    context.Context
	random *rand.Rand
	pipe   *io.PipeWriter

	mu      sync.Mutex
	events  []string // their data
	ownID   bool
	readers int
	alone   time.Time // when the last one left
	ended   time.Time // zero: it goes on
	state   state
	stop    time.Time // when it was stopped; zero: it was not
	tried   time.Time // when somebody tried last
}

// mayBeStopped reports whether the gateway may have stopped the answer at the moment when it ended. The caller holds the lock.
func (a *app) mayBeStopped() bool {
	return a.state == stopped || !a.tried.IsZero() && a.tried.Sub(a.ended).Abs() < time.Millisecond
}

// modelApps answers requests.
type modelApps model

func (m *modelApps) Send(r *http.Request, _ func(*http.Response)) (*http.Response, error) {
	a := &app{m: (*model)(m), ctx: r.Context(), random: (*model)(m).split()}
	if a.random.IntN(3) == 0 {
		select {
		case <-time.After(time.Duration(a.random.IntN(300)) * time.Millisecond):
		case <-a.ctx.Done():
			return nil, callback.ErrUnreachable
		}
	}
	reader, writer := io.Pipe()
	a.pipe = writer
	context.AfterFunc(a.ctx, func() { a.cancelled() })
	h := http.Header{"Content-Type": {"text/event-stream"}, "Set-Cookie": {"a=b"}}
	if s := m.resume; s > 0 || a.random.IntN(2) == 0 {
		h.Set(resumeField, strconv.Itoa(int(s/time.Second)))
	}
	askers.Store(of(a.ctx).in, a)
	a.m.writers.Go(a.write)
	return &http.Response{StatusCode: http.StatusOK, Header: h, Body: reader, Request: r, ProtoMajor: 1, ProtoMinor: 1}, nil
}

// askers are the answers to requests.
var askers sync.Map

// write writes the answer.
func (a *app) write() {
	for n := range a.random.IntN(60) {
		a.m.steps.Add(1)
		if a.random.IntN(2) == 0 {
			time.Sleep(time.Duration(a.random.IntN(400)) * time.Millisecond)
		}
		text := a.block(n)
		for len(text) > 0 { // in pieces
			k := 1 + a.random.IntN(len(text))
			if a.random.IntN(3) > 0 {
				k = len(text)
			}
			if _, err := a.pipe.Write([]byte(text[:k])); err != nil {
				return
			}
			text = text[k:]
		}
		a.check()
	}
	breaks := a.random.IntN(3) == 0
	a.mu.Lock()
	if a.ended.IsZero() {
		a.ended = time.Now()
		a.state = complete
		if breaks {
			a.state = failed
		}
	}
	a.mu.Unlock()
	if breaks {
		_ = a.pipe.CloseWithError(io.ErrUnexpectedEOF)
	} else {
		_ = a.pipe.Close()
	}
}

// block returns a random block.
func (a *app) block(n int) string {
	end := [...]string{"\n", "\r\n", "\r"}[a.random.IntN(3)]
	if a.random.IntN(5) == 0 {
		return ": comment" + end + end
	}
	data := fmt.Sprintf("%d %s", n, strings.Repeat("x", a.random.IntN(1<<a.random.IntN(13))))
	text := "data: " + data + end
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, data)
	if a.random.IntN(400) == 0 {
		a.ownID = true
		text += "id: own" + end
	}
	return text + end
}

func (a *app) running() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ended.IsZero()
}

func (a *app) came() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.readers++
}

func (a *app) left() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.readers--; a.readers == 0 {
		a.alone = time.Now()
	}
}

// wait returns how long the answer is read on for nobody.
func (a *app) wait() time.Duration {
	if a.ownID {
		return 0
	}
	return a.m.resume
}

// check checks that the answer is not written for nobody.
func (a *app) check() {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case !a.ended.IsZero() || a.m.drained.Load():
	case !a.stop.IsZero() && time.Since(a.stop) > promptly:
		a.m.t.Errorf("not cancelled %v after it was stopped", time.Since(a.stop))
	case a.readers == 0 && !a.alone.IsZero() && time.Since(a.alone) > a.m.resume+promptly:
		a.m.t.Errorf("not cancelled %v after the last reader left, %v to wait", time.Since(a.alone), a.m.resume)
	}
}

// cancelled is called when the gateway cancels the answer.
func (a *app) cancelled() {
	_ = a.pipe.CloseWithError(context.Canceled)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ended.IsZero() {
		return
	}
	a.ended, a.state = time.Now(), gone
	since := time.Since(a.alone)
	switch {
	case !a.stop.IsZero():
		a.state = stopped
		if time.Since(a.stop) > promptly {
			a.m.t.Errorf("cancelled %v after it was stopped", time.Since(a.stop))
		}
	case a.m.drained.Load(), a.m.pressure, a.alone.IsZero() && a.readers == 0:
	case a.readers > 0:
		a.m.t.Errorf("cancelled with %d readers", a.readers)
	case since < a.wait(), since > a.m.resume+promptly:
		a.m.t.Errorf("cancelled %v after the last reader left, %v to wait", since, a.wait())
	}
}
