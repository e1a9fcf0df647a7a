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
	MaxBytes int64         // of the log of topics, in memory; the directory needs as much again and 128 MiB
	MaxAge   time.Duration // of an event in the log
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
	found   []journal.Key // by Open, until Survivors

	reserved uint64 // the last offset that was given away; under the lock of the events

	mu      sync.Mutex
	written uint64 // the last offset that is in a file
	begins  []begin
}

// Open locks the directory, which is made where it is missing, and reads it. A directory that
// another process has open, and a file that is damaged, foreign or of a newer version, is an error that says what
// to do; then nothing has been written. Open is to be followed by Run and, at the end, by Close.
func Open(dir string, o Options) (*Store, error) {
	return open(dir, o, env{segmentBytes: segmentBytes})
}

// Append implements broker.Engine. A stored event is in a file before anybody sees it; one that is not
// stored is never written. While the directory cannot be written it fails with
// broker.ErrUnavailable, and the event is in no file. It waits for the disk whatever ctx says.
func (s *Store) Append(ctx context.Context, p broker.Publication) (broker.Position, error) {
	if !p.Store {
		return s.log.Append(p)
	}
	if err := ctx.Err(); err != nil {
		return broker.Position{}, err
	}
	e := &publication{stored: stored{Publication: p}, store: s}
	err := s.events.Append(e)
	switch {
	case err == nil:
		return e.position, e.err
	case errors.Is(err, journal.ErrClosed):
		err = broker.ErrClosed
	case errors.Is(err, journal.ErrAway):
		err = fmt.Errorf("%w: %w", broker.ErrUnavailable, err)
	}
	return broker.Position{}, err
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
	dst, _ := b.Begin(kindEvent)
	b.End(appendEvent(dst, &p.stored))
}

// Written implements journal.Entry.
func (p *publication) Written(journal.Place) {
	s := p.store
	s.mu.Lock()
	s.written = p.offset
	s.mu.Unlock()
	p.position, p.err = s.log.AppendAt(p.Publication, p.offset, p.at)
}

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
