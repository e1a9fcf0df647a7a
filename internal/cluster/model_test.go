package cluster

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"ssegateway/internal/broker/brokertest"
	"ssegateway/internal/gateway"
)

var modelN = flag.Int("model.n", 300, "how many random histories TestModel lives through")

// step is what happens to a random member, a while after the step before.
type step struct {
	after  time.Duration
	member int
	what   string
	fault  brokertest.Fault
}

var steps = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
	return step{
		after:  time.Duration(rapid.IntRange(0, int(lease*3/2/time.Millisecond)).Draw(t, "ms")) * time.Millisecond,
		member: rapid.IntRange(0, 7).Draw(t, "member"),
		what: rapid.SampledFrom([]string{
			"connect", "connect", "connect", "leave", "leave", "break", "break", "break", "heal", "heal",
			"kill", "start", "broker", "backend", "leave in order",
		}).Draw(t, "what"),
		fault: rapid.SampledFrom([]brokertest.Fault{brokertest.Down, brokertest.Cut, brokertest.Deaf, brokertest.Frozen}).Draw(t, "fault"),
	}
}), 5, 40)

// TestModel lives through random histories of nodes that connect, are cut off, stand
// still, die, leave and come, while the broker or the backend may be away. Whatever
// happens: every end is told; nobody tells of what a node holds by its lease, and no
// node of what it lost and others told; no two nodes have the same number.
func TestModel(t *testing.T) {
	_ = flag.Set("rapid.checks", fmt.Sprint(*modelN))
	rapid.Check(t, func(rt *rapid.T) {
		plan := steps.Draw(rt, "steps")
		var faults []string
		synctest.Test(t, func(t *testing.T) { faults = liveThrough(t, plan) })
		for _, fault := range faults {
			rt.Error(fault)
		}
	})
}

// liveThrough lives through a history, and says what was wrong with it.
func liveThrough(t testing.TB, plan []step) []string {
	s := newSite(t)
	start := func() {
		s.start(func(m *member) {
			m.link.Delay = func() time.Duration { return jitter(150 * time.Millisecond) }
			m.node.draw = func() uint32 { return 1 + rand.Uint32N(64) }
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
		case "leave in order":
			s.group.Go(func() { m.leaveInOrder() })
		}
	}
	for _, m := range s.members {
		m.link.Break(brokertest.None)
	}
	s.mu.Lock()
	s.away = false
	s.mu.Unlock()
	start() // so that somebody is there to tell
	sleep(6 * lease)
	for _, m := range s.members {
		m.mu.Lock()
		for token, c := range m.conns {
			if ended := m.dead || c.State() == gateway.Closed; ended && !m.unwritten[token] && len(s.of(token)) == 0 {
				s.fault("of %v of %s nobody was told", token, m.name)
			}
		}
		m.mu.Unlock()
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
		open.Leave(gateway.ClientClosed, 0)
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
