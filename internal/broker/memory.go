package broker

import (
	"context"
	"time"
)

// Memory is the engine for one node. Its log and its keys are lost when the process ends.
type Memory struct {
	log  *Log
	keys *Keys
}

// NewMemory makes an engine whose log has a new epoch and the given bounds.
func NewMemory(maxBytes int64, maxAge time.Duration) *Memory {
	return &Memory{NewLog(NewEpoch(), maxBytes, maxAge), NewKeys()}
}

// LimitRetained bounds what all retained events take, in bytes, before anything is appended. Without it nothing can be
// retained.
func (m *Memory) LimitRetained(maxBytes int64) { m.log.LimitRetained(maxBytes) }

// Append implements Engine.
func (m *Memory) Append(ctx context.Context, p Publication) (Position, error) {
	if p.IdempotencyKey == "" {
		return m.log.Append(p)
	}
	return m.keys.Append(ctx, p, func() (Position, error) { return m.log.Append(p) })
}

// ForgottenKeys returns how many keys were forgotten before their time, because of the bound.
func (m *Memory) ForgottenKeys() uint64 { return m.keys.Forgotten() }

// Log implements Engine.
func (m *Memory) Log() *Log { return m.log }

// trimInterval is how often records that are too old are dropped while nothing is appended.
const trimInterval = time.Second

// Run implements Engine.
func (m *Memory) Run(ctx context.Context) error {
	defer m.log.Close()
	Every(ctx, trimInterval, m.log.Trim)
	return nil
}

// Every calls f now and then until ctx ends.
func Every(ctx context.Context, interval time.Duration, f func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f()
		}
	}
}
