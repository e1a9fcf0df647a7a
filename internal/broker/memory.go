package broker

import (
	"context"
	"crypto/rand"
	"time"
)

// Memory is the engine of one node: a log that is gone with the process.
type Memory struct{ log *Log }

// NewMemory makes a log, of a new epoch, within the bounds given.
func NewMemory(maxBytes int64, maxAge time.Duration) *Memory {
	return &Memory{NewLog(newEpoch(), maxBytes, maxAge)}
}

// newEpoch is unlike any before.
func newEpoch() string { return rand.Text()[:10] }

// Append implements Engine.
func (m *Memory) Append(_ context.Context, p Publication) (Position, error) { return m.log.Append(p) }

// Log implements Engine.
func (m *Memory) Log() *Log { return m.log }

// trimInterval is how often a log at rest is looked at for what is too old.
const trimInterval = time.Second

// Run implements Engine.
func (m *Memory) Run(ctx context.Context) error {
	ticker := time.NewTicker(trimInterval)
	defer ticker.Stop()
	defer m.log.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			m.log.Trim()
		}
	}
}
