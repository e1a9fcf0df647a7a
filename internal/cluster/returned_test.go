package cluster

import (
	"errors"
	"testing"
	"time"

	"ssegateway/internal/broker/brokertest"
	"ssegateway/internal/gateway"
)

// setAway makes the backend unreachable, or reachable again.
func (s *site) setAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

// takeOverUnreported has one member take over a connection of another that cannot reach the
// store any more, and to which the stream stays open. The backend is away, so that the end is
// not reported yet.
func takeOverUnreported(t *testing.T, s *site) (lives, cut *member, token gateway.Token) {
	lives, cut = s.start(answering), s.start(answering)
	sleep(time.Second)
	token = cut.mustConnect()
	sleep(time.Second)
	s.setAway(true)
	cut.link.Break(brokertest.Cut)
	sleep(lease + soon)
	if !lives.adopts(token) {
		t.Error("nobody has taken the connection over")
	}
	return lives, cut, token
}

func (m *member) adopts(token gateway.Token) bool {
	m.node.mu.Lock()
	defer m.node.mu.Unlock()
	_, ok := m.node.adopted[token]
	return ok
}

// A node that counts as lost can be the first to write its key on a store that was made anew.
// No end of its connections is reported until its key says there that it is lost, and it cannot
// hold a lease any more.
func TestReturnsToANewStoreFirst(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		lives, cut, token := takeOverUnreported(t, s)
		lives.link.Delay = func() time.Duration { return 100 * time.Millisecond } // the other is first
		s.store.Lose()
		cut.link.Break(brokertest.None)
		for range 300 {
			if keys := s.store.Keys(); keys[cut.number()].Value != nil && keys[lives.number()].Value != nil {
				break
			}
			sleep(10 * time.Millisecond)
		}
		s.setAway(false)
		for range 3 * lease / (10 * time.Millisecond) {
			sleep(10 * time.Millisecond)
			if cut.gw.Find(token) != nil && len(s.of(token)) > 0 && cut.holding(token) {
				t.Error("the end is reported while the stream is open")
				break
			}
		}
		if len(s.of(token)) == 0 { // on a new store it may be reported twice
			t.Error("the end is not reported")
		}
	})
}

// What a node had taken over, and has not reported, it records again on a store that was made anew. So
// others report it if the node dies.
func TestStoreLostWithWhatWasTakenOver(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		lives, cut, token := takeOverUnreported(t, s)
		cut.kill()
		other := s.start(answering)
		sleep(time.Second)
		s.store.Lose()
		sleep(lease / 2)
		lives.kill()
		s.setAway(false)
		sleep(3 * lease)
		s.expect(other, "error/gateway_lost", token)
	})
}

// The same where it does not die but loses its number.
func TestNumberLostWithWhatWasTakenOver(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		lives, cut, token := takeOverUnreported(t, s)
		cut.kill()
		s.store.Lose()
		sleep(lease / 2)
		other := s.start(answering)
		sleep(time.Second)
		lives.link.Break(brokertest.Cut)
		sleep(lease + soon)
		if other.sees(lives.number()) {
			t.Error("the node that was cut off counts as live")
		}
		lives.link.Break(brokertest.None)
		sleep(lease)
		s.setAway(false)
		sleep(lease)
		s.expect(other, "error/gateway_lost", token)
	})
}

// A node that knows another as gone answers so without the store while its own lease holds.
// Out of contact it does not know whether the store was lost, and the other is back on a new one.
func TestGoneOutOfContact(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		a, b := s.start(answering), s.start(answering)
		sleep(time.Second)
		token := b.mustConnect()
		b.kill()
		sleep(lease + soon)
		a.link.Break(brokertest.Down)
		s.expectAsk(a, token, ErrGone)
		sleep(lease)
		s.expectAsk(a, token, ErrUnreachable)
		a.link.Break(brokertest.None)
		sleep(soon)
		s.expectAsk(a, token, ErrGone)
	})
}

// A number that a node has drawn, and that turns out to be another's, is not its own meanwhile.
func TestDrawnNumberIsNotOwnYet(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		a := s.start(answering)
		sleep(time.Second)
		token := a.mustConnect()
		b := s.start(answering, func(m *member) {
			m.node.draw = func() uint32 {
				m.node.draw = draw
				return token.Node()
			}
			m.link.Delay = func() time.Duration { return 200 * time.Millisecond }
		})
		for begin := time.Now(); time.Since(begin) < 5*time.Second; sleep(50 * time.Millisecond) {
			ctx, cancel := deadline(time.Second)
			_, err := b.node.Ask(ctx, token, func(int) ([]byte, error) { return []byte("?"), nil })
			cancel()
			if errors.Is(err, ErrGone) {
				t.Error("a connection is gone because its number was drawn")
			}
		}
		s.expectAsk(b, token, nil)
	})
}

// A mark of another node does not say when the marked node last renewed its lease. Who takes the
// mark over waits for that long.
func TestMarkedTooEarly(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		a, b, marker := s.start(answering), s.start(answering), s.start(answering)
		sleep(time.Second)
		token, by := b.mustConnect(), marker.number()
		marker.kill()
		sleep(2 * lease)
		b.link.Break(brokertest.Frozen)
		k := s.store.Keys()[b.number()]
		v, _ := decode(k.Value)
		v.State, v.By = lost, by
		ctx, cancel := deadline(time.Second)
		defer cancel()
		store, err := s.store.Link().Open(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := store.Set(ctx, b.number(), v.encode(), k.Revision); err != nil {
			t.Error(err)
		}
		for b.holding(token) {
			if a.adopts(token) || len(s.of(token)) > 0 {
				t.Error("taken over while the lease holds")
				break
			}
			sleep(100 * time.Millisecond)
		}
		b.link.Break(brokertest.None)
		sleep(2 * lease)
		s.expect(nil, "error/gateway_lost", token)
	})
}
