package relay

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/e2e/harness"
	"ssegateway/internal/api"
	"ssegateway/internal/broker"
	"ssegateway/internal/bubble"
	"ssegateway/internal/callback"
	"ssegateway/internal/connections"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
)

var (
	modelN    = flag.Int("relay.n", 10000, "how many random steps TestModel takes")
	modelSeed = flag.Uint64("relay.seed", 0, "the seed of TestModel's first round; 0 for a random one")
)

// TestModel asks for answers, leaves them and comes back, at random, with fast and slow clients, while the backend writes
// them, ends them, breaks off, and stops them, and while the gateway drains. Each client checks what it gets: each answer
// whole, each event once and in order, or it is told that the answer is gone, and only where that is so. Each answer checks
// that it is cancelled when it has to be. In the end nothing is left of it.
func TestModel(t *testing.T) {
	if *modelSeed == 0 {
		*modelSeed = rand.Uint64()
	}
	seed := *modelSeed
	defer func() {
		if t.Failed() {
			t.Logf("to repeat: -run '^TestModel$' -relay.n=1 -relay.seed=%d", seed)
		}
	}()
	total, rounds := 0, 0
	for total < *modelN && !t.Failed() {
		bubble.Test(t, func(t *testing.T) {
			m := newModel(t, seed)
			m.run()
			total += int(m.steps.Load())
		})
		if !t.Failed() {
			seed++
			rounds++
		}
	}
	if !t.Failed() {
		harness.Figure(t, "%d random steps in %d rounds: each answer whole, once and in order, or said to be gone; the application cancelled within %v (first seed %d)", total, rounds, promptly, *modelSeed)
	}
}

// model is one gateway or some, with their clients and the application.
type model struct {
	t        *testing.T
	seed     uint64
	random   *rand.Rand
	nodes    []*modelNode
	resume   time.Duration
	pressure bool // answers are kept no more for lack of room
	steps    atomic.Int64
	drained  atomic.Bool // a node is
	died     atomic.Bool // a node has, or one has not heard of it for so long that it may have
	clients  sync.WaitGroup
	writers  sync.WaitGroup // of the application

	mu      sync.Mutex
	apps    map[string]*app      // by the key of the answer
	unheard map[string]time.Time // since when the pulls of a reader have failed
	reached map[string]time.Time // when the node of the answer last heard of a reader
	randoms uint64               // sources of random numbers so far
}

// promptly is how soon the backend has to be cancelled.
const promptly = 100 * time.Millisecond

func newModel(t *testing.T, seed uint64) *model {
	m := &model{t: t, random: rand.New(rand.NewPCG(seed, 1)), apps: map[string]*app{}, seed: seed, unheard: map[string]time.Time{}, reached: map[string]time.Time{}}
	m.resume = time.Duration(m.random.IntN(4)) * time.Second
	m.pressure = m.random.IntN(3) == 0
	nodes := 1
	if m.random.IntN(3) == 0 {
		nodes = 2 + m.random.IntN(2)
	}
	for number := range nodes {
		m.nodes = append(m.nodes, m.newNode(uint32(number+1), nodes > 1))
	}
	return m
}

// modelNode is a gateway.
type modelNode struct {
	m     *model
	gw    *gateway.Gateway
	relay *Relay

	mu      sync.Mutex
	died    time.Time // zero: it lives
	sockets map[*socket]bool
	apps    []*app
}

func (m *model) newNode(number uint32, clustered bool) *modelNode {
	cfg := gateway.Config{Heartbeat: time.Second, MaxConnections: 1000, QueueBytes: 1 << 20, BudgetBytes: 1 << 30, Clustered: clustered, Addresses: slowAddresses{m}, Log: slog.New(slog.DiscardHandler)}
	rc := Config{AnswerBytes: 1 << 30, BudgetBytes: 1 << 40}
	if m.pressure {
		cfg.MaxConnections = 2 + m.random.IntN(10)
		rc.AnswerBytes = 2000 << m.random.IntN(6)
		rc.BudgetBytes = rc.AnswerBytes * (2 + m.random.Int64N(5)) / 4
	}
	n := &modelNode{m: m, gw: gateway.New(cfg, noBackend{}), sockets: map[*socket]bool{}}
	if clustered {
		n.gw.SetNumber(number)
		rc.Ask = n.ask
	}
	rc.Forwarder, rc.Paths, rc.Gateway, rc.Streams, rc.MaxBody = (*modelApps)(n), []string{""}, n.gw, (*modelStreams)(n), 1<<20
	rc.Position = func(context.Context) broker.Position { return broker.Position{Epoch: "e", Offset: 1} }
	rc.Trusts = func(netip.Addr) bool { return false }
	rc.Peer = func(*http.Request) netip.Addr { return netip.Addr{} }
	rc.LastEventID = func(r *http.Request) string { return r.Header.Get("Last-Event-ID") }
	rc.SameAddress = func(a, b netip.Addr) bool { return a == b }
	rc.Encode = func(r *http.Request) ([]byte, bool) { return callback.EncodeRequest(r, netip.Addr{}) }
	rc.Refuse = func(w http.ResponseWriter, _ *http.Request, e *api.Error) { e.Write(w) }
	rc.Reject = func(w http.ResponseWriter, _ *http.Request, _ []byte, err error) {
		if !errors.Is(err, gateway.ErrFull) && !errors.Is(err, gateway.ErrDraining) {
			m.t.Errorf("rejected: %v", err)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	rc.Log = slog.New(slog.DiscardHandler)
	n.relay = New(rc)
	n.gw.SetSpare(n.relay.Spare)
	return n
}

// lease is for how long it is not known that a node has died.
const lease = 10 * time.Second

// ask asks another node. Some questions are lost, and some answers.
func (n *modelNode) ask(ctx context.Context, q connections.AnswerQuestion) (reply connections.AnswerReply, err error) {
	begin := time.Now()
	defer func() { n.m.heard(q, begin, err) }()
	owner := n.m.nodes[q.Key.Node()-1]
	random := n.m.split()
	if random.IntN(20) == 0 || n.isDead() >= 0 || owner.isDead() >= 0 {
		time.Sleep(2 * time.Second) // fake clock
		n.m.missed(q)
		if owner.isDead() >= lease {
			return reply, connections.ErrAnswerGone
		}
		return reply, connections.ErrUnreachable
	}
	time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond) // fake clock
	if a := n.m.app(nil, key(q.Key).String()); a != nil && q.What == connections.Begin {
		a.mu.Lock()
		a.afar = true
		a.mu.Unlock()
	}
	n.m.reach(q)
	if reply, err = owner.relay.ServeAnswer(ctx, q); random.IntN(20) == 0 || ctx.Err() != nil || owner.isDead() >= 0 {
		return connections.AnswerReply{}, connections.ErrUnreachable
	}
	return reply, err
}

// heard notes that a reader's node has heard of the one that has the answer, or has not since begin.
func (m *model) heard(q connections.AnswerQuestion, begin time.Time, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if q.What != connections.Pull {
		return
	}
	if !errors.Is(err, connections.ErrUnreachable) {
		delete(m.unheard, q.Reader)
		return
	}
	if _, unheard := m.unheard[q.Reader]; !unheard {
		m.unheard[q.Reader] = begin
	}
	if time.Since(m.unheard[q.Reader]) > ownerPatience { // it gives up
		m.died.Store(true)
	}
}

// reach notes that the node of an answer hears of a reader on another one.
func (m *model) reach(q connections.AnswerQuestion) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reached[q.Reader] = time.Now()
}

// missed notes that the node of an answer has not heard of a reader. It may give it up before it hears of the next question.
func (m *model) missed(q connections.AnswerQuestion) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if last, ok := m.reached[q.Reader]; ok && time.Since(last)+pullWait+2*time.Second >= pullSilence {
		m.died.Store(true)
	}
}

// isDead returns for how long the node has been dead; less than 0: it lives.
func (n *modelNode) isDead() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.died.IsZero() {
		return -1
	}
	return time.Since(n.died)
}

// die is the death of the node: what is left of it in the process reaches nobody any more.
func (n *modelNode) die() {
	n.m.died.Store(true)
	n.mu.Lock()
	n.died = time.Now()
	sockets, apps := slices.Collect(maps.Keys(n.sockets)), slices.Clone(n.apps)
	n.mu.Unlock()
	for _, s := range sockets {
		s.die()
	}
	for _, a := range apps {
		a.die()
	}
}

// split returns a source of random numbers for a goroutine.
func (m *model) split() *rand.Rand {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.randoms++
	return rand.New(rand.NewPCG(m.randoms, m.seed))
}

func (m *model) run() {
	ctx, cancel := context.WithCancel(context.Background())
	var background sync.WaitGroup
	for _, n := range m.nodes {
		background.Go(func() { _ = n.gw.Run(ctx) })
	}
	askers := 1 + m.random.IntN(4)
	if m.pressure {
		askers += 3
	}
	for range askers {
		m.clients.Go(m.asker(m.split()))
	}
	victim, at := m.nodes[m.random.IntN(len(m.nodes))], time.Duration(m.random.IntN(5000))*time.Millisecond
	switch m.random.IntN(8) {
	case 0, 1:
		m.clients.Go(func() {
			time.Sleep(at) // fake clock
			m.drained.Store(true)
			victim.gw.Drain(0, 20*time.Second)
		})
	case 2:
		if len(m.nodes) > 1 {
			m.clients.Go(func() {
				time.Sleep(at) // fake clock
				victim.die()
			})
		}
	}
	m.clients.Wait()
	time.Sleep(m.longest()) // fake clock
	synctest.Wait()
	m.mu.Lock()
	for _, a := range m.apps {
		a.check()
		if a.running() {
			m.t.Errorf("an answer goes on without a reader, %v after the last one left", m.longest())
		}
	}
	m.mu.Unlock()
	time.Sleep(m.longest()) // fake clock
	synctest.Wait()
	for _, n := range m.nodes {
		n.leftBehind()
	}
	m.writers.Wait()
	for _, n := range m.nodes {
		n.relay.Wait()
		n.gw.Drain(0, time.Second)
	}
	cancel()
	background.Wait()
}

// longest is after which time an answer that nobody reads is cancelled at the latest: another node's reader may have been
// lost without a word.
func (m *model) longest() time.Duration {
	d := m.resume + promptly
	if len(m.nodes) > 1 {
		d += pullSilence
	}
	return d
}

func (n *modelNode) leftBehind() {
	t := n.m.t
	if s := n.relay.Stats(); s.Kept != 0 || s.Bytes != 0 || s.Alone != 0 || n.relay.Backends() != 0 || len(n.relay.book.pulls) != 0 || len(n.relay.book.tokens) != 0 {
		t.Errorf("left behind: %+v, %d connections to the backend, %d pulls", s, n.relay.Backends(), len(n.relay.book.pulls))
	}
	if s := n.gw.Stats(); s.Open.Load()+s.Pending.Load() != 0 || len(n.gw.List(gateway.Filter{}, gateway.Token{}, 10)) != 0 {
		t.Errorf("left behind: %d open, %d pending", s.Open.Load(), s.Pending.Load())
	}
}

// slowAddresses now and then takes a while to count a client. By then an answer to which it comes may be kept no more, and
// the client comes too late for what is not.
type slowAddresses struct{ m *model }

// Take implements gateway.Addresses.
func (s slowAddresses) Take(netip.Addr) error {
	if random := s.m.split(); random.IntN(4) == 0 {
		time.Sleep(time.Duration(random.Int64N(int64(promptly / 2)))) // fake clock
	}
	return nil
}

// Give implements gateway.Addresses.
func (slowAddresses) Give(netip.Addr) {}

type noBackend struct{}

func (noBackend) Connect(context.Context, context.Context, gateway.Token, []byte) gateway.Answer {
	return gateway.Answer{}
}
func (noBackend) Disconnect(gateway.Notice) {}

// modelStreams opens sockets of all kinds.
type modelStreams modelNode

// OpenAs implements Streams.
func (n *modelStreams) OpenAs(w http.ResponseWriter, r *http.Request, c *gateway.Conn, g gateway.Grant) {
	rec, _ := w.(*recorder)
	random := n.m.split()
	s := newSocket(c, random.IntN(2) == 0, random.IntN(2) == 0, 1<<random.IntN(16))
	rec.socket, rec.status = s, http.StatusOK
	key, _, _ := strings.Cut(rec.header.Get(resumeField), ".")
	a := n.m.app(r, key)
	s.gone = sync.OnceFunc(a.came(c.Token().Node() != a.node.gw.Number()))
	n.mu.Lock()
	n.sockets[s] = true
	dead := !n.died.IsZero()
	n.mu.Unlock()
	if dead || !c.Open(s, frame.Frame{}, g) {
		s.die()
		if dead {
			c.Abort(gateway.ClientClosed, 0)
		}
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
