// Package repeats remembers what was carried out under a key, so that a repeat can be told and has no
// second effect (docs/contract.md, section 4, Repeats).
package repeats

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// Life is how long it is remembered what was carried out.
const Life = 2 * time.Minute

// Overhead is about the memory that a key costs, in bytes, besides its own bytes and the value's.
const Overhead = 256

// Digest identifies what was asked for under a key. See [Digester].
type Digest = [32]byte

// ErrReused is the error where something else was asked for under the same key.
var ErrReused = errors.New("the idempotency key belongs to something else")

// Memory remembers values by key, within a bound of bytes. It is safe for concurrent use.
type Memory[K comparable, V any] struct {
	most, each int64 // bytes: of all, and of a key without its own bytes
	length     func(K) int

	mu        sync.Mutex
	entries   map[K]*Entry[K, V]
	kept      list.List // of *Entry, in the order in which they were carried out
	bytes     int64
	forgotten uint64
}

// Entry is what is remembered of a key.
type Entry[K comparable, V any] struct {
	memory *Memory[K, V]
	key    K
	digest Digest
	value  V

	// Guarded by the memory's lock.
	over chan struct{} // closed at the end of what is under way; nil if it has ended
	at   time.Time     // when it was carried out
	kept *list.Element // nil: under way, or forgotten
}

// New makes a Memory of at most so many bytes. length returns a key's own bytes. A value has about
// valueBytes.
func New[K comparable, V any](most int64, valueBytes int, length func(K) int) *Memory[K, V] {
	return &Memory[K, V]{most: most, each: Overhead + int64(valueBytes), length: length}
}

// Begin looks a key up. There are four results, of which exactly one is not zero:
//
//   - claim: the key is new. The caller carries out what is asked, and then calls Keep or Drop.
//     Until then Begin has others wait. The key must not share bytes with what changes.
//   - wait: the first is under way. When the channel is closed the caller calls Begin again.
//   - done: it was carried out. Value has what came of it.
//   - err: ErrReused.
func (m *Memory[K, V]) Begin(key K, digest Digest) (claim *Entry[K, V], wait <-chan struct{}, done *Entry[K, V], err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expireLocked(time.Now())
	e := m.entries[key]
	switch {
	case e == nil:
		return m.addLocked(key, digest), nil, nil, nil
	case e.digest != digest:
		return nil, nil, nil, ErrReused
	case e.over != nil:
		return nil, e.over, nil, nil
	default:
		return nil, nil, e, nil
	}
}

// Do returns what came of the first under a key, and true. If there was none, it calls act and
// returns its result. That is remembered if act returns keep. While the first is under way Do
// waits for it, until ctx ends. The key must not share bytes with what changes.
func (m *Memory[K, V]) Do(ctx context.Context, key K, digest Digest, act func() (v V, keep bool, err error)) (v V, repeated bool, err error) {
	for {
		claim, wait, done, err := m.Begin(key, digest)
		switch {
		case err != nil:
			return v, false, err
		case done != nil:
			return done.value, true, nil
		case claim != nil:
			v, err = claim.carryOut(act)
			return v, false, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return v, false, ctx.Err()
		}
	}
}

// carryOut calls act, and remembers its result if it says so.
func (e *Entry[K, V]) carryOut(act func() (v V, keep bool, err error)) (V, error) {
	defer e.Drop() // unless it is kept, also after a panic
	v, keep, err := act()
	if keep {
		e.Keep(v)
	}
	return v, err
}

// Restore remembers what was carried out at a time before. Calls have to be in the order of these
// times. It has no effect where the key is known.
func (m *Memory[K, V]) Restore(key K, digest Digest, v V, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if at.After(now) {
		at = now // a clock was wrong
	}
	if m.entries[key] == nil {
		m.addLocked(key, digest).keepLocked(v, at)
	}
	m.expireLocked(now)
}

// Knows reports whether a key is remembered, or what it stands for is under way.
func (m *Memory[K, V]) Knows(key K) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expireLocked(time.Now())
	return m.entries[key] != nil
}

// Forgotten returns how many keys were forgotten before their time, because of the bound.
func (m *Memory[K, V]) Forgotten() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.forgotten
}

// Value returns what came of what was carried out.
func (e *Entry[K, V]) Value() V { return e.value }

// Keep remembers what came of what was carried out just now.
func (e *Entry[K, V]) Keep(v V) {
	e.memory.mu.Lock()
	defer e.memory.mu.Unlock()
	e.keepLocked(v, time.Now())
}

func (e *Entry[K, V]) keepLocked(v V, at time.Time) {
	e.value, e.at = v, at
	e.kept = e.memory.kept.PushBack(e)
	e.endLocked()
}

// Drop ends what was not carried out: a repeat is tried. After Keep it has no effect.
func (e *Entry[K, V]) Drop() {
	e.memory.mu.Lock()
	defer e.memory.mu.Unlock()
	if e.over != nil {
		e.removeLocked()
	}
}

// Forget forgets what turned out not to have been carried out.
func (e *Entry[K, V]) Forget() {
	e.memory.mu.Lock()
	defer e.memory.mu.Unlock()
	if e.kept != nil {
		e.removeLocked()
	}
}

func (m *Memory[K, V]) addLocked(key K, digest Digest) *Entry[K, V] {
	e := &Entry[K, V]{memory: m, key: key, digest: digest, over: make(chan struct{})}
	if m.entries == nil {
		m.entries = map[K]*Entry[K, V]{}
	}
	m.entries[key] = e
	m.bytes += e.bytes()
	return e
}

func (e *Entry[K, V]) bytes() int64 { return e.memory.each + int64(e.memory.length(e.key)) }

// endLocked lets those who wait go on.
func (e *Entry[K, V]) endLocked() {
	close(e.over)
	e.over = nil
}

func (e *Entry[K, V]) removeLocked() {
	m := e.memory
	if e.over != nil {
		e.endLocked()
	}
	if e.kept != nil {
		m.kept.Remove(e.kept)
		e.kept = nil
	}
	delete(m.entries, e.key)
	m.bytes -= e.bytes()
	if len(m.entries) == 0 {
		m.entries = nil // a map never shrinks
	}
}

// expireLocked forgets what is too old, and the oldest beyond the bound. What is under way stays.
func (m *Memory[K, V]) expireLocked(now time.Time) {
	for oldest := m.kept.Front(); oldest != nil; oldest = m.kept.Front() {
		e, _ := oldest.Value.(*Entry[K, V]) // the list has no other type
		if now.Sub(e.at) < Life {
			if m.bytes <= m.most {
				return
			}
			m.forgotten++
		}
		e.removeLocked()
	}
}
