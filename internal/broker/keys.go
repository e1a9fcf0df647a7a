package broker

import (
	"context"
	"strings"
	"time"

	"ssegateway/internal/repeats"
)

const (
	// KeyLife is how long an engine remembers the idempotency key of an event.
	KeyLife = repeats.Life
	// KeyBytes bounds the memory of keys. Beyond it the oldest are forgotten early.
	KeyBytes = 16 << 20

	positionBytes = 32 // of a Position, with its epoch
)

// Keys are the idempotency keys of what was appended to a log, for an engine that is the only one
// of that log. They are safe for concurrent use.
type Keys struct {
	memory *repeats.Memory[string, Position]
}

// NewKeys makes Keys.
func NewKeys() *Keys {
	return &Keys{repeats.New[string, Position](KeyBytes, positionBytes, func(key string) int { return len(key) })}
}

// Append calls add, which has to append p, unless p repeats what was appended. Then it returns as
// [Engine] says. After an error of add nothing is remembered of p, so add may fail only if nothing
// was appended. p must have an IdempotencyKey.
func (k *Keys) Append(ctx context.Context, p Publication, add func() (Position, error)) (Position, error) {
	at, repeated, err := k.memory.Do(ctx, strings.Clone(p.IdempotencyKey), p.Digest, func() (Position, bool, error) {
		at, err := add()
		return at, err == nil, err
	})
	if repeated {
		err = ErrRepeated
	}
	return at, err
}

// Restore remembers the key of what is in the log already, from an earlier run, say. Calls have to be
// in the order of these times.
func (k *Keys) Restore(key string, digest repeats.Digest, position Position, at time.Time) {
	k.memory.Restore(strings.Clone(key), digest, position, at)
}

// Knows reports whether a key is remembered, or its event is being added.
func (k *Keys) Knows(key string) bool { return k.memory.Knows(key) }

// Forgotten returns how many keys were forgotten before their time, because of the bound.
func (k *Keys) Forgotten() uint64 { return k.memory.Forgotten() }
