package cluster

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/broker/brokertest"
	"ssegateway/internal/frame"
	"ssegateway/internal/gateway"
)

// deaf is a store that does not answer the first records that it gets.
type deaf struct {
	broker.Nodes

	unanswered int
	calls      []string
}

func (d *deaf) Hold(context.Context, uint32, broker.Token, []byte) error {
	d.calls = append(d.calls, "hold")
	if len(d.calls) <= d.unanswered {
		return context.DeadlineExceeded
	}
	return nil
}

func (d *deaf) Release(context.Context, uint32, broker.Token) error {
	d.calls = append(d.calls, "release")
	return nil
}

// A release that could not be done is replaced by records of the same connection, while
// the lease is in doubt: what waits for the release hears of it once.
func TestReleaseReplaced(t *testing.T) {
	var l ledger
	l.init(func(uint32) (own, certain bool) { return true, false }, func() bool { return false }, func() {})
	l.use(&deaf{})
	var token gateway.Token
	done := 0
	l.release(1, token, func() { done++ })
	for range 3 {
		if err := l.hold(t.Context(), 1, token, []byte("{}"), false); err != nil {
			t.Fatal(err)
		}
	}
	if done != 1 {
		t.Errorf("told %d times, want once", done)
	}
}

// A record that was not answered may come behind its own removal, unless it is written
// once more, with an answer.
func TestReleaseOfUnanswered(t *testing.T) {
	for unanswered, want := range [][]string{
		{"hold", "release"},
		{"hold", "hold", "release"},
		{"hold", "hold", "hold", "release"},
	} {
		var l ledger
		l.init(func(uint32) (own, certain bool) { return true, true }, func() bool { return false }, func() {})
		store := &deaf{unanswered: unanswered}
		l.use(store)
		var token gateway.Token
		_ = l.hold(t.Context(), 1, token, []byte("{}"), false)
		done := 0
		for range 2 { // the second one replaces the first, or has nothing to do
			l.release(1, token, func() { done++ })
		}
		for done == 0 {
			_, op := l.next()
			if op == nil {
				l.again()
				continue
			}
			_ = l.perform(t.Context(), store, token, op)
		}
		if !slices.Equal(store.calls, want) || done != 2 || l.size() != 0 {
			t.Errorf("%d without an answer: %v, done %d times; want %v", unanswered, store.calls, done, want)
		}
	}
}

// What waits for the store is counted in bytes, whatever becomes of it; and beyond the
// bound no connection is to be taken, until there is room again. Of what ends nothing is held
// where its record was certainly not sent.
func TestHeldIsBounded(t *testing.T) {
	t.Run("cut", func(t *testing.T) { heldIsBounded(t, brokertest.Cut, 1) })
	t.Run("down", func(t *testing.T) { heldIsBounded(t, brokertest.Down, 3) })
}

// heldIsBounded has one of so many connections held.
func heldIsBounded(t *testing.T, fault brokertest.Fault, of int) {
	t.Helper()
	within(t, func(t *testing.T, s *site) {
		const bound = 200_000
		m := s.start(func(m *member) { m.node.cfg.HeldBytes = bound })
		sleep(time.Second)
		request := []byte(`{"url":"/","headers":{"x":"` + strings.Repeat("x", 2000) + `"}}`)
		open := func() *gateway.Conn {
			c, _, err := m.gw.Connect(t.Context(), request)
			if err != nil {
				t.Fatal(err)
			}
			c.Open(&null{}, frame.Frame{}, gateway.Grant{})
			return c
		}
		kept := open()
		if n := m.node.Held(); n != 0 {
			t.Errorf("%d bytes are held of what is recorded", n)
		}
		m.link.Break(fault)
		all := 0
		for ; !m.node.Refuses(); all++ {
			c := open() // some stay, some leave, of some the backend knows nothing
			switch all % 3 {
			case 1:
				c.Abort(gateway.ClientClosed, 0)
				synctest.Wait() // until it is told, if it can be
			case 2:
				m.node.ledger.release(c.Token().Node(), c.Token(), nil)
			}
		}
		if most := of * bound / len(request); all < most*3/4 || all > most {
			t.Errorf("%d connections were taken, each of %d bytes, where %d bytes may be held", all, len(request), bound)
		}
		sleep(2 * lease)
		if !m.node.Refuses() || m.node.stats.Refused.Load() != 2 {
			t.Errorf("refused %d, want 2", m.node.stats.Refused.Load())
		}
		kept.Abort(gateway.ClientClosed, 0)
		m.link.Break(brokertest.None)
		sleep(lease)
		if m.node.Refuses() || m.node.Held() != 0 || m.node.Backlog() != 0 {
			t.Errorf("%d bytes are held, of %d connections", m.node.Held(), m.node.Backlog())
		}
		s.expect(m, "client_closed", kept.Token())
	})
}
