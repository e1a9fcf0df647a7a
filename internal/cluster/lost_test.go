package cluster

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/broker/brokertest"
	"ssegateway/internal/gateway"
)

// answering lets a member answer other nodes.
func answering(m *member) {
	m.node.Serve(func(context.Context, []byte) []byte { return []byte(m.name) })
}

// expectAsk wants what comes of it when a member asks the node of a token.
func (s *site) expectAsk(from *member, token gateway.Token, want error) {
	s.t.Helper()
	ctx, cancel := deadline(time.Second)
	defer cancel()
	if _, err := from.node.Ask(ctx, token, func(int) ([]byte, error) { return []byte("?"), nil }); !errors.Is(err, want) {
		s.t.Errorf("%s asks the node of %v: %v, want %v", from.name, token, err, want)
	}
}

func (m *member) sees(other uint32) bool {
	return slices.ContainsFunc(m.node.Peers(), func(p Peer) bool { return p.Number == other })
}

// awayFaults are how a node can be away when the store is lost.
var awayFaults = []brokertest.Fault{brokertest.Down, brokertest.Cut, brokertest.Frozen}

// A node that is away when the store is lost is not gone: it may hold its streams still.
// The others know it, and go on knowing it, until it was silent for a lease on the new
// store. A node that came meanwhile learns of it.
func TestStoreLostWhileANodeIsAway(t *testing.T) {
	for _, fault := range awayFaults {
		within(t, func(t *testing.T, s *site) {
			a, b := s.start(answering), s.start(answering)
			sleep(time.Second)
			token, number := b.mustConnect(), b.number()
			b.link.Break(fault)
			sleep(time.Second)
			s.store.Lose()
			lost := time.Now()
			sleep(3 * time.Second)
			fresh := s.start(answering)
			sleep(time.Second)
			for time.Since(lost) < lease-2*time.Second { // an iteration may take as long
				for _, m := range []*member{a, fresh} {
					s.expectAsk(m, token, ErrUnreachable)
					if !m.sees(number) {
						t.Errorf("fault %d: %s does not know the node any more", fault, m.name)
					}
				}
				sleep(time.Second)
			}
			sleep(soon)
			for _, m := range []*member{a, fresh} {
				s.expectAsk(m, token, ErrGone)
				if m.sees(number) {
					t.Errorf("fault %d: %s takes the node for alive", fault, m.name)
				}
			}
			b.link.Break(brokertest.None)
			sleep(lease)
			s.expect(nil, "error/gateway_lost", token)
			if b.gw.Find(token) != nil || b.number() == number {
				t.Errorf("fault %d: what was said to be gone goes on", fault)
			}
		})
	}
}

// A node that is back within the lease goes on.
func TestStoreLostAndBack(t *testing.T) {
	for _, fault := range awayFaults {
		within(t, func(t *testing.T, s *site) {
			a, b := s.start(answering), s.start(answering)
			sleep(time.Second)
			token, number := b.mustConnect(), b.number()
			b.link.Break(fault)
			s.store.Lose()
			sleep(lease / 2)
			b.link.Break(brokertest.None)
			sleep(2 * lease)
			s.expectAsk(a, token, nil)
			s.expectNone(token)
			if b.number() != number || s.store.Records() != 1 {
				t.Errorf("fault %d: number %08x, was %08x, %d records", fault, b.number(), number, s.store.Records())
			}
		})
	}
}

// Where nobody is left who knew the node, it is told apart from one that is gone by the
// age of the store; and it does not go on under a number that was said to be gone.
func TestStoreLostAndAllThatKnew(t *testing.T) {
	for _, fault := range awayFaults {
		within(t, func(t *testing.T, s *site) {
			a, b := s.start(answering), s.start(answering)
			sleep(time.Second)
			token, number := b.mustConnect(), b.number()
			b.link.Break(fault)
			a.kill()
			sleep(time.Second)
			s.store.Lose()
			lost := time.Now()
			fresh := s.start(answering)
			sleep(time.Second)
			unknown := gateway.NewToken()
			for time.Since(lost) < lease-2*time.Second {
				s.expectAsk(fresh, token, ErrUnreachable)
				s.expectAsk(fresh, unknown, ErrUnreachable)
				sleep(time.Second)
			}
			sleep(2 * time.Second)
			s.expectAsk(fresh, token, ErrGone)
			s.expectAsk(fresh, unknown, ErrGone)
			b.link.Break(brokertest.None)
			sleep(lease)
			s.expect(b, "error/gateway_lost", token)
			if b.gw.Find(token) != nil || b.number() == number {
				t.Errorf("fault %d: what was said to be gone goes on", fault)
			}
			latest := s.start(answering)
			sleep(time.Second)
			s.expectAsk(latest, token, ErrGone) // the store is old enough by now
		})
	}
}

// A node that was taken for lost stays lost, though the store forgot.
func TestStoreLostAfterANode(t *testing.T) {
	for _, fault := range awayFaults {
		within(t, func(t *testing.T, s *site) {
			a, b := s.start(answering), s.start(answering)
			sleep(time.Second)
			token, number := b.mustConnect(), b.number()
			b.link.Break(fault)
			sleep(lease + soon)
			s.expectAsk(a, token, ErrGone)
			s.expect(a, "error/gateway_lost", token)
			s.forgot = true
			s.store.Lose()
			b.link.Break(brokertest.None)
			for range int(lease / time.Second) {
				s.expectAsk(a, token, ErrGone)
				sleep(time.Second)
			}
			if b.gw.Find(token) != nil || b.number() == number || a.sees(number) {
				t.Errorf("fault %d: what was said to be gone goes on", fault)
			}
		})
	}
}

// A node that has just started is named when it knows the others: until then it would ask
// nobody, and say of what it does not have that nobody has it.
func TestNamedWhenItKnowsTheOthers(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		for range 3 {
			s.start(answering)
		}
		sleep(time.Second)
		m := s.start(answering, func(m *member) { m.link.Delay = func() time.Duration { return time.Second } })
		for range 100 {
			sleep(100 * time.Millisecond)
			if n := len(m.node.Peers()); m.node.Named() && n < 3 {
				t.Errorf("named, and knows %d of 3 others", n)
				break
			}
		}
		if !m.node.Named() {
			t.Error("not named after 10 s")
		}
	})
}

// What a node was told by the store, and said, it remembers when the store is lost before
// its watch has come to that.
func TestStoreLostBehindWhatWasSaid(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		var slow atomic.Bool
		a := s.start(answering, func(m *member) {
			m.link.Delay = func() time.Duration {
				if slow.CompareAndSwap(true, false) {
					return lease / 4 // of the watch
				}
				return 0
			}
		})
		b := s.start(answering)
		sleep(time.Second)
		token, number := b.mustConnect(), b.number()
		b.node.mu.Lock()
		b.node.silence() // as while it changes stores
		b.node.silence = nil
		b.node.mu.Unlock()
		b.link.Break(brokertest.Down)
		ctx, cancel := deadline(time.Minute)
		defer cancel()
		other, err := s.store.Link().Open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		k, err := other.Get(ctx, number)
		if err != nil {
			t.Fatal(err)
		}
		slow.Store(true)
		v, _ := decode(k.Value)
		revision := k.Revision
		for _, v.State = range []string{live, lost} {
			if revision, err = other.Set(ctx, number, v.encode(), revision); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // the watch takes its time with the first
		}
		s.expectAsk(a, token, ErrGone)
		s.forgot = true
		s.store.Lose()
		b.link.Break(brokertest.None)
		sleep(2 * lease)
		s.expectAsk(a, token, ErrGone)
		if b.gw.Find(token) != nil || b.number() == number {
			t.Error("what was said to be gone goes on")
		}
	})
}
