package nats

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ssegateway/internal/broker"
)

// marks are what is known of a stream that is not to go back to an earlier state of itself:
// it does so when NATS is started from a copy of its directory, or lost its power.
type marks struct {
	mu         sync.Mutex
	acked      uint64 // the highest sequence that is known to have been in the stream
	wrote      uint64 // the last message that this node wrote; 0: none
	subject    string // of that message
	reconnects uint64 // of the connection, when the stream was looked at last
	back       bool   // it went back
}

// lookAgain is between two looks at a stream that is too short: a leader that is new may not
// be as far yet.
const lookAgain = 300 * time.Millisecond

// expect returns a sequence that what is written now comes behind. The stream has gone back
// where it ends before that, or has another message in place of the one that this node wrote
// last. Only a NATS that was away can have gone back, so that is looked at after each reconnect.
func (n *Nodes) expect(ctx context.Context) (floor uint64, err error) {
	reconnects := n.conn.Stats().Reconnects
	m := &n.marks
	m.mu.Lock()
	floor, wrote, subject, back, looked := m.acked, m.wrote, m.subject, m.back, m.reconnects == reconnects
	m.mu.Unlock()
	if !back && !looked {
		if back, err = n.hasGoneBack(ctx, floor, wrote, subject); err != nil {
			return 0, fmt.Errorf("%w: %w", broker.ErrUnsent, err)
		}
		m.mu.Lock()
		m.reconnects, m.back = max(m.reconnects, reconnects), m.back || back
		m.mu.Unlock()
	}
	if back {
		return 0, broker.ErrStoreLost
	}
	return floor, nil
}

func (n *Nodes) hasGoneBack(ctx context.Context, floor, wrote uint64, subject string) (bool, error) {
	for again := false; ; again = true {
		info, err := n.stream.Info(ctx)
		if err != nil {
			return false, n.failure(ctx, err)
		}
		if info.State.LastSeq >= floor {
			break
		}
		if again {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(lookAgain):
		}
	}
	if wrote == 0 {
		return false, nil
	}
	last, err := n.stream.GetMsg(ctx, wrote)
	if errors.Is(err, jetstream.ErrMsgNotFound) { // it was removed, or written over
		return false, nil
	}
	if err != nil {
		return false, n.failure(ctx, err)
	}
	return last.Subject != subject, nil
}

// acknowledged takes note of a message that this node wrote, which has to come behind floor.
func (m *marks) acknowledged(subject string, sequence, floor uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.back = m.back || sequence <= floor; m.back {
		return broker.ErrStoreLost
	}
	if sequence > m.acked {
		m.acked = sequence
	}
	if sequence > m.wrote {
		m.wrote, m.subject = sequence, subject
	}
	return nil
}
