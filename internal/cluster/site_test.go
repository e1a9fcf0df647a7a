package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"ssegateway/internal/broker"
	"ssegateway/internal/broker/brokertest"
	"ssegateway/internal/bubble"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
	"ssegateway/internal/topics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const lease = 10 * time.Second

// site is a cluster in a bubble, with the one backend that its nodes tell.
type site struct {
	t       testing.TB
	store   *brokertest.Store
	members []*member
	group   sync.WaitGroup

	mu     sync.Mutex
	away   bool // the backend
	forgot bool // the store was lost behind a node: what that one held may be told twice
	told   map[gateway.Token][]telling
	gone   map[gateway.Token]goneSaid
	lost   time.Time // when the store was lost last
	faults []string
}

// telling is a disconnect that the backend got.
type telling struct {
	by     *member
	reason string
	as     uint32 // the number that it had
}

// member is a node with a gateway.
type member struct {
	site *site
	name string
	node *Node
	link *brokertest.Link
	gw   *gateway.Gateway
	end  context.CancelFunc

	mu        sync.Mutex
	dead      bool
	resumed   chan struct{} // closed by Resume
	telling   int           // disconnects under way
	unwritten map[gateway.Token]bool
	conns     map[gateway.Token]*gateway.Conn // that the backend was asked for, and accepted

	patience time.Duration // between two tries to tell

	beforeAsking chan struct{} // closed: the backend may be asked; nil: at once
	late         map[gateway.Token]bool
}

func newSite(t testing.TB) *site {
	return &site{t: t, store: brokertest.NewStore(), told: map[gateway.Token][]telling{}, gone: map[gateway.Token]goneSaid{}}
}

// within runs a test of a cluster in a bubble.
func within(t *testing.T, f func(t *testing.T, s *site)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		s := newSite(t)
		f(t, s)
		s.close()
		for _, fault := range s.faults {
			t.Error(fault)
		}
	})
}

func (s *site) start(change ...func(m *member)) *member {
	m := &member{
		site: s, name: fmt.Sprint("n", len(s.all())), link: s.store.Link(),
		resumed: make(chan struct{}), unwritten: map[gateway.Token]bool{}, conns: map[gateway.Token]*gateway.Conn{},
		late: map[gateway.Token]bool{}, patience: time.Second,
	}
	log := slog.New(slog.DiscardHandler)
	m.node = New(Config{Name: m.name, Lease: lease, HeldBytes: 1 << 30, Open: m.link.Open, Log: log})
	m.gw = gateway.New(gateway.Config{
		Heartbeat: time.Hour, MaxConnections: 1000, QueueBytes: 1 << 20, BudgetBytes: 1 << 27,
		Topics: topics.New(broker.NewMemory(1<<20, time.Hour), true), Clustered: true, Log: log,
	}, m.node.Backend(m))
	for _, f := range change {
		f(m)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.end = cancel
	s.group.Go(func() { _ = m.node.Run(ctx, m.gw) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members = append(s.members, m)
	return m
}

// all returns the members so far.
func (s *site) all() []*member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.members)
}

// close ends everything.
func (s *site) close() {
	for _, m := range s.members {
		m.link.Break(brokertest.None)
		m.kill()
	}
	s.group.Wait()
	synctest.Wait() // what was being told
}

// kill ends a member as SIGKILL would: it does and says nothing more. What it could
// not write down dies with it.
func (m *member) kill() {
	m.mu.Lock()
	if !m.dead {
		m.dead = true
		for token := range m.conns {
			if _, unwritten := m.node.ledger.held(token); unwritten {
				m.unwritten[token] = true
			}
		}
	}
	m.mu.Unlock()
	m.Resume()
	m.end()
}

// Connect implements gateway.Backend.
func (m *member) Connect(_, client context.Context, token gateway.Token, _ []byte) gateway.Answer {
	m.mu.Lock()
	wait := m.beforeAsking
	m.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-client.Done():
			return gateway.Answer{Outcome: gateway.Unasked}
		}
	}
	late := !m.holding(token) // others may have told
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return gateway.Answer{Outcome: gateway.Unreachable}
	}
	m.late[token] = late
	m.conns[token] = m.gw.Find(token)
	return gateway.Answer{Outcome: gateway.Accepted, Status: 200}
}

// Disconnect implements gateway.Backend as the callback's client does.
func (m *member) Disconnect(n gateway.Notice) {
	m.mu.Lock()
	m.telling++
	m.mu.Unlock()
	go func() {
		defer func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.telling--
		}()
		for {
			m.mu.Lock()
			dead, resumed := m.dead, m.resumed
			m.mu.Unlock()
			if dead {
				return
			}
			switch m.node.Permit(n.Token) {
			case gateway.Granted:
				if m.site.tell(m, n) {
					m.node.OnFinished(n, false)
					return
				}
				time.Sleep(m.patience) // fake clock
			case gateway.Deferred:
				<-resumed
			case gateway.Denied:
				m.node.OnFinished(n, true)
				return
			}
		}
	}()
}

func (m *member) Resume() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.resumed)
	m.resumed = make(chan struct{})
}

// tell reports an end to the backend, and checks that the node may report it.
func (s *site) tell(m *member, n gateway.Notice) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return false
	}
	token := n.Token
	for _, other := range s.members {
		// A node that has not noticed yet that the store was lost cannot know who came back on the new one.
		if other != m && other.holding(token) && m.lastContact().After(s.lost) {
			s.faults = append(s.faults, fmt.Sprintf("%s tells of %v, which %s holds by its lease", m.name, token, other.name))
		}
	}
	if token.Node() != m.number() {
		for _, before := range s.told[token] {
			// One that told and lost its number may have left its record for others to find.
			if before.by != m && before.by.holds(before.as) && m.made(token) && !m.askedLate(token) && !s.forgot {
				s.faults = append(s.faults, fmt.Sprintf("%s tells of its old %v, of which %s has told", m.name, token, before.by.name))
			}
		}
	}
	reason := n.Reason.String()
	if n.Detail != 0 {
		reason += "/" + n.Detail.String()
	}
	s.told[token] = append(s.told[token], telling{m, reason, m.number()})
	return true
}

func (m *member) number() uint32 {
	m.node.mu.Lock()
	defer m.node.mu.Unlock()
	if !m.node.claimed {
		return 0
	}
	return m.node.number
}

// holding reports whether the member's lease on a token's number holds.
func (m *member) holding(token gateway.Token) bool { return m.holds(token.Node()) }

// holds reports whether the member's lease on a number holds.
func (m *member) holds(number uint32) bool {
	m.mu.Lock()
	dead := m.dead
	m.mu.Unlock()
	return !dead && m.node.Holds() && m.number() == number
}

// askedLate reports whether others may have told of the connection when the backend was asked.
func (m *member) askedLate(token gateway.Token) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.late[token]
}

func (m *member) made(token gateway.Token) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.conns[token]
	return ok
}

// connect makes an open connection, or none where the member takes none.
func (m *member) connect() (gateway.Token, bool) {
	c, _, err := m.gw.Connect(context.Background(), []byte(`{"url":"/","headers":{}}`))
	if err != nil {
		return gateway.Token{}, false
	}
	c.Open(&null{}, frame.Frame{}, gateway.Grant{})
	return c.Token(), true
}

func (m *member) mustConnect() gateway.Token {
	m.site.t.Helper()
	token, ok := m.connect()
	if !ok {
		m.site.t.Fatalf("%s takes no connection", m.name)
	}
	return token
}

func (m *member) leave(token gateway.Token) {
	m.mu.Lock()
	c := m.conns[token]
	m.mu.Unlock()
	c.Abort(gateway.ClientClosed, 0)
}

// of returns what the backend was told of a token.
func (s *site) of(token gateway.Token) []telling {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told[token]
}

// expect checks what the backend was told of tokens: once, by that member, with that reason.
func (s *site) expect(by *member, reason string, tokens ...gateway.Token) {
	s.t.Helper()
	for _, token := range tokens {
		if told := s.of(token); len(told) != 1 || told[0].by != by && by != nil || told[0].reason != reason {
			s.t.Errorf("of %v was told %v, want %s", token, told, reason)
		}
	}
}

// null is a stream that takes everything.
type null struct{}

func (*null) Start() gateway.Detail                  { return 0 }
func (*null) Write(p []byte) (int, gateway.Detail)   { return len(p), 0 }
func (*null) Left() (gateway.Reason, gateway.Detail) { return 0, 0 }
func (*null) Look(uint64) (uint64, bool)             { return 1, false }
func (*null) Close(bool)                             {}
func (*null) Chunked() bool                          { return false }

func sleep(d time.Duration) {
	time.Sleep(d) // fake clock
	synctest.Wait()
}

func jitter(most time.Duration) time.Duration { return rand.N(most) }

func deadline(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}
