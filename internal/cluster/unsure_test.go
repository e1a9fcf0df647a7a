package cluster

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"ssegateway/internal/broker"
)

// deafToTakeOvers loses the answers to the first take-overs.
type deafToTakeOvers struct {
	broker.Nodes

	left *atomic.Int32
	busy *atomic.Bool // after the first of them no record is written in time; nil: it is
}

func (d deafToTakeOvers) TakeOver(ctx context.Context, node uint32, token broker.Token, by uint32) (taken, before bool, err error) {
	taken, before, err = d.Nodes.TakeOver(ctx, node, token, by)
	if err == nil && d.left.Add(-1) >= 0 {
		if d.busy != nil {
			d.busy.Store(true)
		}
		return false, false, errors.New("no answer")
	}
	return taken, before, err
}

func (d deafToTakeOvers) Hold(ctx context.Context, node uint32, token broker.Token, request []byte) error {
	if d.busy != nil && d.busy.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return d.Nodes.Hold(ctx, node, token, request)
}

// startDeaf starts a member that gets no answer to so many take-overs.
func (s *site) startDeaf(answers int32, busy *atomic.Bool) (m *member, left *atomic.Int32) {
	left = new(atomic.Int32)
	left.Store(answers)
	return s.start(func(m *member) {
		m.node.cfg.Open = func(ctx context.Context) (broker.Nodes, error) {
			store, err := m.link.Open(ctx)
			return deafToTakeOvers{store, left, busy}, err
		}
	}), left
}

// A connection of a dead node that was taken over without an answer is told of all the same,
// and once, though there is no record of it under the dead node's number any more.
func TestTakenOverWithoutAnswer(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		b, _ := s.startDeaf(2, nil)
		a := s.start()
		sleep(time.Second)
		first, second := a.mustConnect(), a.mustConnect()
		a.kill()
		sleep(3 * lease)
		s.expect(b, "error/gateway_lost", first, second)
		if n := s.store.Records(); n != 0 {
			t.Errorf("%d records are left", n)
		}
	})
}

// It is told of also where the store takes no record in time when the take-over is tried again:
// there is one already.
func TestTakenOverWithoutAnswerByABusyStore(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		var busy atomic.Bool
		b, _ := s.startDeaf(2, &busy)
		a := s.start()
		sleep(time.Second)
		token := a.mustConnect()
		a.kill()
		sleep(3 * lease)
		if !busy.Load() {
			t.Error("nothing was taken over")
		}
		s.expect(b, "error/gateway_lost", token)
		if n := s.store.Records(); n != 0 {
			t.Errorf("%d records are left", n)
		}
	})
}

// A node that leaves while it does not know whether it has taken a connection over leaves that to
// the others.
func TestLeavesWithoutAnswer(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		b, _ := s.startDeaf(math.MaxInt32, nil)
		a := s.start()
		sleep(time.Second)
		token := a.mustConnect()
		a.kill()
		sleep(lease + soon)
		if s.store.Keys()[token.Node()].Value == nil {
			t.Error("the dead node is gone already")
		}
		b.leaveInOrder()
		c := s.start()
		sleep(3 * lease)
		s.expect(c, "error/gateway_lost", token)
	})
}

// A node that does not know whether it has taken a connection over when the store is lost tells of
// it on the next one, where nobody else knows it.
func TestStoreLostWithoutAnswer(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		b, left := s.startDeaf(math.MaxInt32, nil)
		a := s.start()
		sleep(time.Second)
		token := a.mustConnect()
		a.kill()
		sleep(lease + soon)
		s.store.Lose()
		left.Store(0)
		sleep(3 * lease)
		s.expect(b, "error/gateway_lost", token)
		if n := s.store.Records(); n != 0 {
			t.Errorf("%d records are left", n)
		}
	})
}
