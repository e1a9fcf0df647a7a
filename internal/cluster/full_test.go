package cluster

import (
	"strings"
	"testing"
	"time"

	"ssegateway/internal/broker/brokertest"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
)

// full is how large the store is in these tests, in bytes.
const full = 200_000

// largeRequest makes a record of which not many fit.
var largeRequest = []byte(`{"url":"/","headers":{"x":"` + strings.Repeat("x", 1000) + `"}}`)

// connectLarge opens a connection with a large record; nil: it is not taken.
func (m *member) connectLarge() *gateway.Conn {
	m.site.t.Helper()
	c, answer, err := m.gw.Connect(m.site.t.Context(), largeRequest)
	if err != nil {
		m.site.t.Fatal(err)
	}
	if answer.Outcome == gateway.Unasked {
		return nil
	}
	c.Open(&null{}, frame.Frame{}, gateway.Grant{})
	return c
}

// fill opens connections with large records until the member takes no more, or many have come.
func (m *member) fill() (all []*gateway.Conn) {
	m.site.t.Helper()
	for range 2 * full / len(largeRequest) {
		if m.node.Refuses() {
			return all
		}
		c := m.connectLarge()
		if c == nil {
			continue
		}
		all = append(all, c)
	}
	m.site.t.Errorf("%s takes %d connections, where there is no room for them", m.name, len(all))
	return all
}

func tokens(conns []*gateway.Conn) (tokens []gateway.Token) {
	for _, c := range conns {
		tokens = append(tokens, c.Token())
	}
	return tokens
}

// A store that is full of records costs no lease, so ends are told, and there is room again.
func TestFullOfRecords(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		s.store.Limit(full)
		a, b := s.start(), s.start()
		sleep(time.Second)
		number := a.number()
		conns := a.fill()
		for range 4 * lease / time.Second {
			sleep(time.Second)
			if !a.node.Holds() || !b.node.Holds() || a.number() != number {
				t.Fatalf("leases hold: %v, %v", a.node.Holds(), b.node.Holds())
			}
		}
		if more := b.fill(); len(more) > 0 || !a.node.Refuses() {
			t.Errorf("%d connections more are taken; refused: %v", len(more), a.node.Refuses())
		}
		for _, c := range conns {
			c.Abort(gateway.ClientClosed, 0)
		}
		sleep(lease)
		s.expect(a, "client_closed", tokens(conns)...)
		if n := s.store.Records(); n != 0 || a.node.Refuses() || b.node.Refuses() || a.node.Backlog() != 0 {
			t.Errorf("%d records are left; refused: %v, %v; %d wait", n, a.node.Refuses(), b.node.Refuses(), a.node.Backlog())
		}
	})
}

// What came while the store was away, and finds it full, is recorded when there is room.
func TestRecordedWhenThereIsRoom(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		a, b := s.start(), s.start()
		sleep(time.Second)
		s.store.Limit(full)
		filled := len(b.fill())
		a.link.Break(brokertest.Down)
		tokens := tokens([]*gateway.Conn{a.connectLarge(), a.connectLarge()})
		a.link.Break(brokertest.None)
		sleep(lease)
		if n := s.store.Records() - filled; n != 0 || !a.node.Holds() || a.node.Backlog() != len(tokens) {
			t.Errorf("%d records, holds: %v, %d wait", n, a.node.Holds(), a.node.Backlog())
		}
		s.store.Limit(0)
		sleep(lease)
		if n := s.store.Records() - filled; n != len(tokens) || a.node.Backlog() != 0 {
			t.Errorf("%d records of %d connections, %d wait", n, len(tokens), a.node.Backlog())
		}
		a.kill()
		sleep(2 * lease)
		s.expect(b, "error/gateway_lost", tokens...)
	})
}

// A node that is dead when the store is full is told of, also by one that starts then.
func TestFullOfADeadNode(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		s.store.Limit(full)
		a := s.start()
		sleep(time.Second)
		conns := a.fill()
		sleep(lease)
		a.kill()
		sleep(2 * lease)
		b := s.start()
		sleep(4 * lease)
		var recorded []gateway.Token
		for _, c := range conns {
			if !a.unwritten[c.Token()] {
				recorded = append(recorded, c.Token())
			}
		}
		s.expect(b, "error/gateway_lost", recorded...)
		if n := s.store.Records(); n != 0 || b.node.Refuses() || len(recorded) < len(conns)*3/4 {
			t.Errorf("%d records are left; refused: %v; %d of %d were recorded", n, b.node.Refuses(), len(recorded), len(conns))
		}
	})
}

// TestModelFull has the store full as well, now and then.
func TestModelFull(t *testing.T) {
	checkModel(t, append([]string{"lossy", "full", "full", "room", "connect", "connect", "leave"}, happenings...))
}
