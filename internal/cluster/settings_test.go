package cluster

import (
	"testing"
	"time"

	"ssegateway/internal/broker/brokertest"
)

// backends gives a member digests of the backend that it tells, and of the one before.
func backends(digests ...string) func(m *member) {
	return func(m *member) { m.node.cfg.Backends = digests }
}

func (s *site) expectTakes(m *member, want bool) {
	s.t.Helper()
	_, takes := m.connect()
	if takes != want || m.node.Named() != want || (m.node.Differs() == "") != want {
		s.t.Errorf("%s takes connections: %v, named: %v, differs: %q; want %v", m.name, takes, m.node.Named(), m.node.Differs(), want)
	}
}

// A node that tells another backend takes no connections, and tells of nobody, while a node
// of the others lives.
func TestOtherBackend(t *testing.T) {
	for _, inOrder := range []bool{false, true} {
		within(t, func(t *testing.T, s *site) {
			a := s.start(backends("x"))
			sleep(time.Second)
			b := s.start(backends("y"))
			for range 3 * lease / time.Second {
				sleep(time.Second)
				s.expectTakes(b, false)
			}
			c := s.start(backends("x")) // which a node that waits does not keep from starting
			sleep(time.Second)
			s.expectTakes(c, true)
			token := a.mustConnect()
			a.kill()
			sleep(soon)
			s.expect(c, "error/gateway_lost", token)
			s.expectTakes(b, false)
			if inOrder {
				c.leaveInOrder()
				sleep(2 * time.Second)
			} else {
				c.kill()
				sleep(soon)
			}
			s.expectTakes(b, true)
		})
	}
}

// The backend's address is changed node by node, by nodes that know both.
func TestBackendChangedNodeByNode(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		a := s.start(backends("x"))
		sleep(time.Second)
		b := s.start(backends("y", "x"))
		sleep(time.Second)
		s.expectTakes(b, true)
		again := s.start(backends("x"))
		sleep(time.Second)
		s.expectTakes(again, true)
		a.leaveInOrder()
		again.leaveInOrder()
		c := s.start(backends("y"))
		sleep(time.Second)
		s.expectTakes(c, true)
	})
}

// Who says nothing of the backend goes with everybody: a node of the version before, and one
// that has none.
func TestNoBackendNamed(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		for _, m := range []*member{s.start(), s.start(backends("x")), s.start()} {
			sleep(time.Second)
			s.expectTakes(m, true)
		}
	})
}

// Each node is taken for lost by its own lease: so long it may trust in it.
func TestUnlikeLeases(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		a := s.start()
		b := s.start(func(m *member) { m.node.cfg.Lease = 3 * lease })
		sleep(time.Second)
		token, number := b.mustConnect(), b.number()
		b.link.Break(brokertest.Cut)
		sleep(2 * lease)
		s.expectNone(token)
		b.link.Break(brokertest.None)
		sleep(lease)
		if b.number() != number {
			t.Error("a node lost its number before its lease was over")
		}
		b.kill()
		sleep(3*lease + soon)
		s.expect(a, "error/gateway_lost", token)
	})
}
