package cluster

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ssegateway/internal/broker/brokertest"
	"ssegateway/internal/bubble"
	"ssegateway/internal/gateway"
)

var modelN = flag.Int("model.n", 300, "how many random histories each TestModel lives through")

// step is what happens to a random member, a while after the step before.
type step struct {
	after  time.Duration
	member int
	what   string
	fault  brokertest.Fault
}

var happenings = []string{
	"connect", "connect", "connect", "leave", "leave", "break", "break", "break", "heal", "heal",
	"kill", "start", "broker", "backend", "leave in order", "ask", "ask",
}

// steps returns a history of what happens.
func steps(happenings []string) *rapid.Generator[[]step] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step { return draws(t, happenings) }), 5, 40)
}

func draws(t *rapid.T, happenings []string) step {
	return step{
		after:  time.Duration(rapid.IntRange(0, int(lease*3/2/time.Millisecond)).Draw(t, "ms")) * time.Millisecond,
		member: rapid.IntRange(0, 7).Draw(t, "member"),
		what:   rapid.SampledFrom(happenings).Draw(t, "what"),
		fault:  rapid.SampledFrom([]brokertest.Fault{brokertest.Down, brokertest.Cut, brokertest.Deaf, brokertest.Frozen}).Draw(t, "fault"),
	}
}

// TestModel lives through random histories of nodes that connect, are cut off, stand
// still, die, leave and come, while the broker or the backend may be away. Whatever
// happens: every end is told; nobody tells of what a node holds by its lease, and no
// node of what it lost and others told; no two nodes have the same number; and what was
// said to be gone is, or will be as soon as its node can know.
func TestModel(t *testing.T) { checkModel(t, append([]string{"lossy"}, happenings...)) }

// TestModelStoreLost has the store lost as well, over and over. What a node held that is
// dead by then nobody can know; and what was told may be told again.
func TestModelStoreLost(t *testing.T) {
	checkModel(t, append([]string{"lossy", "store", "store", "ask", "ask", "ask"}, happenings...))
}

// TestModelStoreRestored has the broker come back with an earlier state of the store. What
// is held by a node that lives is in it soon afterwards.
func TestModelStoreRestored(t *testing.T) {
	checkModel(t, append([]string{"lossy", "save", "save", "restore", "restore"}, happenings...))
}

func checkModel(t *testing.T, happenings []string) {
	t.Helper()
	_ = flag.Set("rapid.checks", fmt.Sprint(*modelN))
	rapid.Check(t, func(rt *rapid.T) {
		plan := steps(happenings).Draw(rt, "steps")
		var faults []string
		bubble.Test(t, func(t *testing.T) { faults = liveThrough(t, plan) })
		for _, fault := range faults {
			rt.Error(fault)
		}
	})
}

// liveThrough lives through a history, and says what was wrong with it.
func liveThrough(t testing.TB, plan []step) []string {
	s := newSite(t)
	s.forgot = slices.ContainsFunc(plan, func(st step) bool { return st.what == "store" || st.what == "restore" })
	restore := s.store.Save()
	start := func() {
		s.start(func(m *member) {
			m.link.Delay = func() time.Duration { return jitter(150 * time.Millisecond) }
			if !s.forgot {
				m.node.draw = func() uint32 { return 1 + rand.Uint32N(64) }
			}
			answering(m)
		})
	}
	for range 3 {
		start()
	}
	over := make(chan struct{})
	s.group.Go(func() { s.watchNumbers(over) })
	for _, st := range plan {
		sleep(st.after)
		m := s.members[st.member%len(s.members)]
		switch st.what {
		case "connect":
			s.group.Go(func() { m.connect() })
		case "leave":
			m.leaveAny()
		case "break":
			m.link.Break(st.fault)
		case "lossy":
			m.link.Break(brokertest.Lossy)
		case "heal":
			m.link.Break(brokertest.None)
		case "kill":
			m.kill()
		case "start":
			if len(s.members) < 8 {
				start()
			}
		case "broker": // away for everybody
			for _, m := range s.members {
				m.link.Break(brokertest.Down)
			}
		case "backend":
			s.mu.Lock()
			s.away = !s.away
			s.mu.Unlock()
		case "store":
			s.mu.Lock()
			s.lost = time.Now()
			s.mu.Unlock()
			s.store.Lose()
		case "save":
			restore = s.store.Save()
		case "restore":
			s.mu.Lock()
			s.lost = time.Now()
			s.mu.Unlock()
			restore()
		case "full": // there is room for little more, or for none
			s.store.Limit(s.store.Size() + rand.IntN(1000))
		case "room":
			s.store.Limit(0)
		case "ask":
			s.group.Go(m.askAny)
		case "leave in order":
			s.group.Go(func() { m.leaveInOrder() })
		}
	}
	for _, m := range s.members {
		m.link.Break(brokertest.None)
	}
	s.store.Limit(0)
	s.mu.Lock()
	s.away = false
	s.mu.Unlock()
	start() // so that somebody is there to tell
	sleep(6 * lease)
	for _, m := range s.members {
		m.mu.Lock()
		for token, c := range m.conns {
			ended := m.dead || c.State() == gateway.Closed
			if unknown := m.unwritten[token] || m.dead && s.forgot; ended && !unknown && len(s.of(token)) == 0 {
				s.fault("of %v of %s nobody was told", token, m.name)
			}
			said, ok := s.gone[token]
			if ok && s.remembered(said) && !m.dead && c.State() != gateway.Closed {
				s.fault("%s said that %v of %s is gone, and it is open", said.by.name, token, m.name)
			}
		}
		m.mu.Unlock()
	}
	open := 0
	for _, m := range s.members {
		m.mu.Lock()
		for _, c := range m.conns {
			if !m.dead && c.State() == gateway.Open {
				open++
			}
		}
		m.mu.Unlock()
	}
	if n := s.store.Records(); n < open {
		s.fault("%d records of %d open connections", n, open)
	}
	for _, m := range s.members {
		if held, want := m.node.ledger.counted(); held != want {
			s.fault("%s counts %d bytes for what waits, which takes %d", m.name, held, want)
		}
	}
	close(over)
	s.close()
	return s.faults
}

func (s *site) fault(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, fmt.Sprintf(format, args...))
}

// watchNumbers looks now and then whether two nodes hold the same number.
func (s *site) watchNumbers(over <-chan struct{}) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case <-tick.C:
		}
		have := map[uint32]string{}
		for _, m := range s.all() {
			m.mu.Lock()
			dead := m.dead
			m.mu.Unlock()
			if n := m.number(); n != 0 && !dead && m.node.Holds() {
				if other, twice := have[n]; twice {
					s.fault("%s and %s both hold %08x", other, m.name, n)
				}
				have[n] = m.name
			}
		}
	}
}

// askAny asks the node of a connection, and remembers it if that is said to be gone.
func (m *member) askAny() {
	for _, other := range m.site.all() {
		other.mu.Lock()
		var tokens []gateway.Token
		for token := range other.conns {
			tokens = append(tokens, token)
		}
		other.mu.Unlock()
		if len(tokens) == 0 || m.made(tokens[0]) {
			continue
		}
		token := tokens[rand.IntN(len(tokens))]
		ctx, cancel := deadline(2 * time.Second)
		since := m.lastContact()
		_, err := m.node.Ask(ctx, token, func(int) ([]byte, error) { return []byte("?"), nil })
		cancel()
		m.node.mu.Lock()
		_, known := m.node.keys[token.Node()]
		m.node.mu.Unlock()
		m.mu.Lock()
		dead := m.dead
		m.mu.Unlock()
		if dead {
			return // nobody gets its answer
		}
		if errors.Is(err, ErrGone) {
			m.site.mu.Lock()
			m.site.gone[token] = goneSaid{m, known, since}
			m.site.mu.Unlock()
		}
	}
}

// counted returns what the operations that are open take, as it was counted and as it is.
func (l *ledger) counted() (held, want int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, op := range l.open {
		want += op.cost()
	}
	return l.bytes.Load(), want
}

// lastContact returns when the member's last renewal was sent; now, if its lease is in doubt, so
// that it has to ask the store.
func (m *member) lastContact() time.Time {
	if !m.node.Holds() {
		return time.Now()
	}
	m.node.mu.Lock()
	defer m.node.mu.Unlock()
	return m.node.certain.Add(-m.node.trust())
}

// goneSaid is an answer that a connection's node is gone.
type goneSaid struct {
	by    *member
	known bool      // to it, as a node
	since time.Time // the store that it is based on existed then
}

// remembered reports whether the answer is still known: to the store, unless that was lost
// since, or to the node that gave it.
func (s *site) remembered(said goneSaid) bool {
	return s.lost.Before(said.since) || said.known && !said.by.dead
}

// leaveAny ends a connection, if there is one.
func (m *member) leaveAny() {
	m.mu.Lock()
	var open *gateway.Conn
	for _, c := range m.conns {
		if c.State() == gateway.Open {
			open = c
		}
	}
	m.mu.Unlock()
	if open != nil {
		open.Abort(gateway.ClientClosed, 0)
	}
}

// leaveInOrder is what SIGTERM does.
func (m *member) leaveInOrder() {
	m.mu.Lock()
	dead := m.dead
	m.mu.Unlock()
	if dead {
		return
	}
	m.gw.Drain(0, time.Second)
	complete := false
	for end := time.Now().Add(4 * time.Second); !complete && time.Now().Before(end); time.Sleep(10 * time.Millisecond) { // fake clock
		m.mu.Lock()
		complete = m.telling == 0
		m.mu.Unlock()
	}
	leaving, cancel := deadline(time.Second)
	defer cancel()
	_ = m.node.Leave(leaving, complete)
	m.kill()
}
