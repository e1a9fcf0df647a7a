package cluster

import (
	"testing"
	"time"

	"ssegateway/internal/broker/brokertest"
	"ssegateway/internal/gateway"
)

// marked waits until the store says that a number is lost.
func (s *site) marked(number uint32) {
	s.t.Helper()
	for range 4 * lease / (10 * time.Millisecond) {
		if v, _ := decode(s.store.Keys()[number].Value); v.State == lost {
			return
		}
		sleep(10 * time.Millisecond)
	}
	s.t.Errorf("%08x does not count as lost", number)
}

// slowly has a member take a moment for each step, such as between a mark and taking over.
func slowly(m *member) { m.link.Delay = func() time.Duration { return 100 * time.Millisecond } }

// renamed waits until the member has another number than before.
func (m *member) renamed(before uint32) {
	m.site.t.Helper()
	for range lease / (10 * time.Millisecond) {
		if number := m.number(); number != 0 && number != before {
			sleep(time.Second) // what its teller had is denied
			return
		}
		sleep(10 * time.Millisecond)
	}
	m.site.t.Errorf("%s has not learnt that its number is lost", m.name)
}

// markOnly has a member lose its number to another one, which is cut off before it takes anything over.
func (s *site) markOnly(m, marker *member) {
	s.t.Helper()
	number := m.number()
	m.link.Break(brokertest.Cut)
	s.marked(number)
	marker.link.Break(brokertest.Cut)
	m.link.Break(brokertest.None)
	m.renamed(number)
}

// handsOver returns of how many numbers the member keeps what others are to report.
func (m *member) handsOver() int {
	m.node.mu.Lock()
	defer m.node.mu.Unlock()
	return len(m.node.handed)
}

// A node that has lost its number leaves its ends to others, who find its records. If the store is lost before they did,
// nobody else knows of them, and the node tells of them itself.
func TestNumberLostThenStore(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		cut, marker := s.start(answering), s.start(answering, slowly)
		sleep(time.Second)
		token := cut.mustConnect()
		s.markOnly(cut, marker)
		s.expectNone(token)
		s.store.Lose()
		sleep(3 * lease)
		s.expect(cut, "error/gateway_lost", token)
	})
}

// The same of what it had taken over.
func TestNumberLostThenStoreWithWhatWasTakenOver(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		lives, dead, token := takeOverUnreported(t, s)
		dead.kill()
		marker := s.start(answering, slowly)
		sleep(lease + soon)
		s.markOnly(lives, marker)
		s.expectNone(token)
		s.store.Lose()
		s.setAway(false)
		sleep(3 * lease)
		s.expect(lives, "error/gateway_lost", token)
	})
}

// A node that reports what its own former number held, since who was to is dead, does so once, though what it was reporting
// under that number waits for the backend until all is told.
func TestReportsItsFormerNumberOnce(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		a, tokens := findsItsFormerNumber(t, s, 1, 10*lease)
		s.setAway(false)
		sleep(5 * lease)
		s.expect(a, "error/gateway_lost", tokens...)
		sleep(10 * lease) // the first try is denied by then
		s.expect(a, "error/gateway_lost", tokens...)
	})
}

// If it dies before that, another one reports them. The records stay until they are told of, though the node comes to each
// in two ways.
func TestFormerNumberOfWhoDies(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		a, tokens := findsItsFormerNumber(t, s, 100, time.Second)
		sleep(5 * lease)
		s.expectNone(tokens...)
		other := s.start(answering)
		sleep(time.Second)
		a.kill()
		s.setAway(false)
		sleep(5 * lease)
		s.expect(other, "error/gateway_lost", tokens...)
	})
}

// findsItsFormerNumber has a node lose its number to one that dies, so that it finds the records of its own connections
// while they are in dispute. The backend is away.
func findsItsFormerNumber(t *testing.T, s *site, connections int, patience time.Duration) (a *member, tokens []gateway.Token) {
	a, b := s.start(answering, slowly), s.start(answering, slowly)
	sleep(2 * time.Second)
	for range connections {
		tokens = append(tokens, a.mustConnect())
	}
	number := a.number()
	s.store.Lose() // so that what a loses is in dispute
	sleep(lease / 2)
	s.setAway(true)
	a.patience = patience
	for _, token := range tokens {
		a.leave(token)
	}
	sleep(time.Second)
	a.link.Break(brokertest.Cut)
	s.marked(number)
	b.kill()
	a.link.Break(brokertest.None)
	a.renamed(number)
	return a, tokens
}

// What others are to report is kept only until they have found it, and only within the bound of what is kept.
func TestWhatOthersReportIsKeptForAWhile(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		cut, marker := s.start(answering), s.start(answering, slowly)
		sleep(time.Second)
		token := cut.mustConnect()
		s.setAway(true) // the other has found it when it has written that down
		s.markOnly(cut, marker)
		if held := cut.node.Held(); held < operationOverhead {
			t.Errorf("%d bytes are kept", held)
		}
		marker.link.Break(brokertest.None)
		sleep(lease)
		if held, handed := cut.node.Held(), cut.handsOver(); held != 0 || handed != 0 {
			t.Errorf("%d bytes of %d numbers are kept", held, handed)
		}
		s.setAway(false)
		sleep(lease)
		s.expect(nil, "error/gateway_lost", token)
	})
}

// A node that learns of its lost number only when others have found all keeps nothing. Otherwise it would tell of all that again
// when the store is lost.
func TestNothingIsKeptWhenOthersHaveFoundAll(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		cut, other := s.start(answering), s.start(answering)
		sleep(time.Second)
		token, number := cut.mustConnect(), cut.number()
		cut.link.Break(brokertest.Cut)
		sleep(3 * lease)
		s.expect(other, "error/gateway_lost", token)
		cut.link.Break(brokertest.None)
		cut.renamed(number)
		if handed := cut.handsOver(); handed != 0 {
			t.Errorf("ends of %d numbers are kept", handed)
		}
		s.store.Lose()
		sleep(3 * lease)
		s.expect(other, "error/gateway_lost", token)
	})
}

func TestBoundOfWhatOthersReport(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		cut, marker := s.start(answering, func(m *member) { m.node.cfg.HeldBytes = 2 * operationOverhead }), s.start(answering, slowly)
		sleep(time.Second)
		for range 3 {
			cut.mustConnect()
		}
		s.markOnly(cut, marker)
		if held, unkept := cut.node.Held(), cut.node.Stats().Unkept.Load(); held > 2*operationOverhead || unkept != 2 {
			t.Errorf("%d bytes are kept, and %d ends are not", held, unkept)
		}
	})
}
