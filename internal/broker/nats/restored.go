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

// marks detect that a stream went back to an earlier state of itself. That happens when NATS is
// started from a copy of its directory, or after a loss of power.
type marks struct {
	mu         sync.Mutex
	acked      uint64 // the highest sequence that is known to have been in the stream
	wrote      uint64 // the last message that this node wrote; 0: none
	subject    string // of that message
	reconnects uint64 // of the connection, when the stream was last checked
	back       bool   // the stream went back
}

// lookAgain is the time between two checks of a stream that is too short: a new leader may not
// have all messages yet.
const lookAgain = 300 * time.Millisecond

// expect returns a sequence that the next write has to exceed. The stream has gone back if it
// ends before that, or if it has another message in place of this node's last one. Only a NATS
// that was down can have gone back, so the stream is checked after each reconnect.
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
	if errors.Is(err, jetstream.ErrMsgNotFound) { // the message was removed or replaced
		return false, nil
	}
	if err != nil {
		return false, n.failure(ctx, err)
	}
	return last.Subject != subject, nil
}

// acknowledged records a message that this node wrote. Its sequence has to exceed floor.
func (m *marks) acknowledged(subject string, sequence, floor uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.back = m.back || sequence <= floor; m.back {
		return broker.ErrStoreLost
	}
	m.knowLocked(subject, sequence)
	return nil
}

// found records a message that this node wrote without an answer, and has found.
func (m *marks) found(subject string, sequence uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.knowLocked(subject, sequence)
}

func (m *marks) knowLocked(subject string, sequence uint64) {
	m.acked = max(m.acked, sequence)
	if sequence > m.wrote {
		m.wrote, m.subject = sequence, subject
	}
}
