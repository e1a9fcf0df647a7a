package cluster

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"ssegateway/internal/broker"
)

// deafToTakeOvers loses the answers to the first take-overs.
type deafToTakeOvers struct {
	broker.Nodes

	left *atomic.Int32
}

func (d deafToTakeOvers) TakeOver(ctx context.Context, node uint32, token broker.Token, by uint32) (bool, error) {
	taken, err := d.Nodes.TakeOver(ctx, node, token, by)
	if err == nil && d.left.Add(-1) >= 0 {
		return false, errors.New("no answer")
	}
	return taken, err
}

// A connection of a dead node that was taken over without an answer is told of all the same,
// and once, though there is no record of it under the dead node's number any more.
func TestTakenOverWithoutAnswer(t *testing.T) {
	within(t, func(t *testing.T, s *site) {
		var left atomic.Int32
		left.Store(2)
		b := s.start(func(m *member) {
			m.node.cfg.Open = func(ctx context.Context) (broker.Nodes, error) {
				store, err := m.link.Open(ctx)
				return deafToTakeOvers{store, &left}, err
			}
		})
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
