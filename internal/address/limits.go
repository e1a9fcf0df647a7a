package address

import (
	"context"
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Limits bounds the streams that one address has at a time, and how many it may open in a minute.
// Its methods are safe for concurrent use.
type Limits struct {
	max     int32 // streams at a time; 0: any number
	burst   int64 // opened at once, and in a minute; 0: any number
	started time.Time
	seed    maphash.Seed

	tooMany, tooFast atomic.Uint64 // refused
	shards           [shards]shard
}

// shards is how many parts the table has, so that clients on different cores seldom wait for each
// other, and none for long while a part is swept.
const shards = 64

// maxIdle bounds the addresses of a shard that are remembered without a stream. Beyond it an address is
// forgotten as its last stream ends, and may at once open as many as one that was never seen.
const maxIdle = 1 << 20 / shards

// sweepEvery is the time between two sweeps. An address without a stream is remembered for a minute
// at most, when it may open as many as one that was never seen, and until the next sweep.
const sweepEvery = 30 * time.Second

type shard struct {
	mu    sync.Mutex
	table map[key]entry
	idle  int // entries without a stream
	most  int // entries since the table was made: a map never shrinks
}

// key is what counts as one address: an IPv4 address, or the /64 of an IPv6 address, which one
// customer has in whole.
type key struct {
	bits uint64
	ipv4 bool
}

// entry is what an address has. Its rate is that of a token bucket which holds burst tokens and gets as
// many in a minute. It is kept as the time when the bucket will be full (the theoretical arrival time
// of the GCRA, ITU-T I.371), which takes no more than one number.
type entry struct {
	full    time.Duration // since the start
	streams int32
}

// keyOf returns the key of an address; ok is false for the zero Addr, which is nobody's.
func keyOf(addr netip.Addr) (k key, ok bool) {
	if addr = plain(addr); addr.Is4() {
		b := addr.As4()
		return key{bits: uint64(binary.BigEndian.Uint32(b[:])), ipv4: true}, true
	}
	b := addr.As16()
	return key{bits: binary.BigEndian.Uint64(b[:])}, addr.IsValid()
}

// NewLimits bounds an address to so many streams at a time, and to so many new ones in a minute, with
// a burst of the same number. 0 is no bound. Run has to be called for it to forget.
func NewLimits(streams, perMinute int) *Limits {
	return &Limits{max: int32(streams), burst: int64(perMinute), started: time.Now(), seed: maphash.MakeSeed()} //nolint:gosec // bounded by the setting
}

// TooManyError is the error of an address that has, or opens, too many streams.
type TooManyError struct {
	// Wait is the time after which it may open one; 0: when one of its streams has ended.
	Wait time.Duration
}

// Error implements error.
func (*TooManyError) Error() string { return "too many streams from this address" }

// IsCrowd reports whether it may open one when one of its streams has ended.
func (e *TooManyError) IsCrowd() bool { return e.Wait == 0 }

// Same reports whether two addresses count as one.
func Same(a, b netip.Addr) bool {
	x, ok := keyOf(a)
	y, valid := keyOf(b)
	return ok && valid && x == y
}

// Take counts a stream for an address. It returns a [TooManyError], and counts nothing, if the address has too many.
// Each stream that was counted needs a Give. The zero Addr is never refused.
func (l *Limits) Take(client netip.Addr) error {
	k, ok := keyOf(client)
	if !ok {
		return nil
	}
	s := l.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, known := s.table[k]
	if l.max > 0 && e.streams >= l.max {
		return &TooManyError{}
	}
	if l.burst > 0 {
		now := time.Since(l.started)
		each := time.Minute / time.Duration(l.burst)
		full := max(e.full, now) + each
		if wait := full - now - each*time.Duration(l.burst); wait > 0 {
			return &TooManyError{Wait: wait}
		}
		e.full = full
	}
	if known && e.streams == 0 {
		s.idle--
	}
	e.streams++
	if s.table == nil {
		s.table = make(map[key]entry)
	}
	s.table[k] = e
	s.most = max(s.most, len(s.table))
	return nil
}

// Refuse counts a client that is turned away for an error of Take. One for which room was made is not.
func (l *Limits) Refuse(e *TooManyError) {
	if e.IsCrowd() {
		l.tooMany.Add(1)
	} else {
		l.tooFast.Add(1)
	}
}

// Give uncounts a stream that Take has counted.
func (l *Limits) Give(client netip.Addr) {
	k, ok := keyOf(client)
	if !ok {
		return
	}
	s := l.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.table[k]
	switch e.streams--; {
	case e.streams > 0:
		s.table[k] = e
	case e.full <= time.Since(l.started) || s.idle >= maxIdle:
		s.forget(k)
	default:
		s.table[k] = e
		s.idle++
	}
}

// fewEntries is how many entries a table may have had and is kept when it is empty.
const fewEntries = 8

// forget removes an entry, and the table of a storm with the last one.
func (s *shard) forget(k key) {
	delete(s.table, k)
	if len(s.table) == 0 && s.most > fewEntries {
		s.table, s.most = nil, 0
	}
}

// Run forgets addresses without a stream, until ctx ends.
func (l *Limits) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			for i := range l.shards {
				l.shards[i].sweep(time.Since(l.started))
			}
		}
	}
}

// sweep forgets the addresses that have no stream and whose bucket is full. A table of which little is left is
// made anew.
func (s *shard) sweep(now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle > 0 {
		for k, e := range s.table {
			if e.streams == 0 && e.full <= now {
				s.forget(k)
				s.idle--
			}
		}
	}
	if s.most > fewEntries && len(s.table) < s.most/4 {
		table := make(map[key]entry, len(s.table))
		for k, e := range s.table {
			table[k] = e
		}
		s.table, s.most = table, len(table)
	}
}

func (l *Limits) shard(k key) *shard { return &l.shards[maphash.Comparable(l.seed, k)%shards] }

// Addresses returns how many addresses are remembered.
func (l *Limits) Addresses() int {
	n := 0
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		n += len(s.table)
		s.mu.Unlock()
	}
	return n
}

// Refused returns how many streams were refused: because the address had too many, and because it
// opened too many in a minute.
func (l *Limits) Refused() (tooMany, tooFast uint64) { return l.tooMany.Load(), l.tooFast.Load() }
