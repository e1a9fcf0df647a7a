// Package disk keeps what a single gateway has to remember in one directory, so that it survives
// the end of the process, however that comes: the log of topics ([broker.Engine]) and a record
// for each connection.
package disk

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/journal"
)

// Options are the bounds of the log and how safe a write is.
type Options struct {
	MaxBytes int64         // of the log of topics, in memory
	MaxAge   time.Duration // of an event in the log
	// RetainedBytes bounds all retained events together. 0: nothing can be retained.
	RetainedBytes int64
	// Sync forces each write to the disk before it is answered. Without it a write survives
	// the process at once, and the machine after about a second.
	Sync bool
	// Log gets a line when the directory cannot be written, when it can again, and about what
	// Open has found. nil: nothing is logged.
	Log *slog.Logger
}

// Store is the memory of a gateway in a directory. It is safe for concurrent use.
type Store struct {
	o       Options
	dir     *journal.Dir
	log     *broker.Log
	events  *journal.Log
	records *journal.Table
	keys    *broker.Keys
	found   []journal.Key // by Open, until Survivors

	reserved uint64 // the last offset that was given away; under the lock of the events

	mu     sync.Mutex
	latest begin // what a segment would begin with now
	begins []begin
	tabled []tabled // about the oldest first

	values map[uint64]int // retained events in the table: of how many topics, by offset; of Open and Run
}

// Open locks the directory, which is made where it is missing, and reads it. A directory that
// another process has open, and a file that is damaged, foreign or of a newer version, is an error that says what
// to do; then nothing has been written. Open is to be followed by Run and, at the end, by Close.
func Open(dir string, o Options) (*Store, error) {
	return open(dir, o, env{segmentBytes: segmentBytes})
}

// Append implements broker.Engine. A stored event or a removal is in a file before anybody sees it; an event that is not
// stored is never written, but for its idempotency key. While the directory cannot be written it fails with
// broker.ErrUnavailable, and the event is in no file. It waits for the disk whatever ctx says.
func (s *Store) Append(ctx context.Context, p broker.Publication) (broker.Position, error) {
	if p.IdempotencyKey == "" {
		return s.add(ctx, p)
	}
	// Where add leaves it unknown whether p was added, nothing is added again before that has been cut off.
	return s.keys.Append(ctx, p, func() (broker.Position, error) { return s.add(ctx, p) })
}

func (s *Store) add(ctx context.Context, p broker.Publication) (broker.Position, error) {
	if !p.Store && !p.Remove && p.IdempotencyKey == "" {
		return s.log.Append(p)
	}
	if err := ctx.Err(); err != nil {
		return broker.Position{}, err
	}
	if !p.Store && !p.Remove {
		return s.addKeyed(p)
	}
	if p.Retain {
		release, ok := s.log.Reserve(p)
		if !ok {
			return broker.Position{}, broker.ErrRetainedFull
		}
		defer release()
	}
	e := &publication{stored: stored{Publication: p}, store: s}
	if err := s.events.Append(e); err != nil {
		return broker.Position{}, refusal(err)
	}
	return e.position, e.err
}

// refusal returns the broker's error for one of the journal.
func refusal(err error) error {
	switch {
	case errors.Is(err, journal.ErrClosed):
		return broker.ErrClosed
	case errors.Is(err, journal.ErrAway):
		return fmt.Errorf("%w: %w", broker.ErrUnavailable, err)
	}
	return err
}

// publication is an event on its way into the file, and from there into memory.
type publication struct {
	stored
	store    *Store
	position broker.Position
	err      error
}

// Records implements journal.Entry. An offset that is given away here is not given away again by this process, even if the write
// fails: where it is unknown whether the event is in the file, it may come back.
func (p *publication) Records(b *journal.Batch) {
	p.store.reserved++
	p.offset, p.at = p.store.reserved, time.Now()
	kind := byte(kindEvent)
	if p.Remove {
		kind = kindRemoval
	}
	dst, _ := b.Begin(kind)
	b.End(appendEvent(dst, &p.stored))
}

// Written implements journal.Entry.
func (p *publication) Written(journal.Place) {
	p.position, p.err = p.store.log.AppendAt(p.Publication, p.offset, p.at)
	if p.err == nil {
		p.store.mu.Lock()
		p.store.latest.take(&p.stored)
		p.store.mu.Unlock()
	}
}

// ForgottenKeys returns how many idempotency keys were forgotten before their time, because of the bound of their memory.
func (s *Store) ForgottenKeys() uint64 { return s.keys.Forgotten() }

// Log implements broker.Engine. It is always the same one.
func (s *Store) Log() *broker.Log { return s.log }

func connection(token broker.Token) journal.Key { return journal.Key{Kind: kindConnection, ID: token} }

// Put writes the record of a connection, in place of the one that it has, if any. It fails
// while the directory cannot be written; then the record that was there stays.
func (s *Store) Put(token broker.Token, record []byte) error {
	return s.records.Put(connection(token), record)
}

// Delete removes the record of a connection, if there is one. A removal that cannot be
// written is remembered, and written as soon as it can be. The error only tells of that: if
// the process ends before, the record is there at the next Open.
func (s *Store) Delete(token broker.Token) error { return s.records.Delete(connection(token)) }

// Survivors returns the records that Open has found, the oldest first, without those that were
// deleted since. It is for one use. Records may be put and deleted meanwhile, also by the loop's body.
func (s *Store) Survivors() iter.Seq2[broker.Token, []byte] {
	return func(yield func(broker.Token, []byte) bool) {
		found := s.found
		s.found = nil
		r := s.records.Log().Reader()
		defer r.Close()
		for _, k := range found {
			record, err := s.records.Get(r, k)
			if err != nil {
				s.o.Log.Error("the record of a connection cannot be read", slog.String("error", err.Error()))
			}
			if record != nil && !yield(k.ID, record) {
				return
			}
		}
	}
}

// Away returns for how long the directory has not been writable; 0 means that it is.
func (s *Store) Away() time.Duration {
	events, _ := s.events.Away()
	records, _ := s.records.Log().Away()
	return max(events, records)
}

// Close is a clean stop, after Run has ended: the next Open continues exactly here, whatever happens to the
// machine. Its error means that this is not so: some of the last second may be missing then, and records that were
// deleted may be back.
func (s *Store) Close() error {
	var err error
	if s.records != nil {
		err = errors.Join(s.records.Settle(), s.records.Log().Close())
	}
	if s.events != nil {
		err = errors.Join(err, s.events.Close())
	}
	if s.log != nil {
		s.log.Close()
	}
	return errors.Join(err, s.dir.Close())
}
