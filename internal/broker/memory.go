package broker

import (
	"context"
	"time"
)

// Memory is the engine for one node. Its log is lost when the process ends.
type Memory struct{ log *Log }

// NewMemory makes an engine whose log has a new epoch and the given bounds.
func NewMemory(maxBytes int64, maxAge time.Duration) *Memory {
	return &Memory{NewLog(NewEpoch(), maxBytes, maxAge)}
}

// LimitRetained bounds what all retained events take, in bytes, before anything is appended. Without it nothing can be
// retained.
func (m *Memory) LimitRetained(maxBytes int64) { m.log.LimitRetained(maxBytes) }

// Append implements Engine.
func (m *Memory) Append(_ context.Context, p Publication) (Position, error) { return m.log.Append(p) }

// Log implements Engine.
func (m *Memory) Log() *Log { return m.log }

// trimInterval is how often records that are too old are dropped while nothing is appended.
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
