// Package disk keeps what a single gateway has to remember in one directory, so that it survives
// the end of the process, however that comes: the log of topics ([broker.Engine]) and a record
// for each connection.
package disk

import (
	"context"
	"iter"
	"log/slog"
	"time"

	"ssegateway/internal/broker"
)

// Options are the bounds of the log and how safe a write is.
type Options struct {
	MaxBytes int64         // of the log of topics, in memory; the directory needs about as much and 64 MiB more
	MaxAge   time.Duration // of an event in the log
	// Sync forces each write to the disk before it is answered. Without it a write survives
	// the process at once, and the machine after about a second.
	Sync bool
	// Log gets a line when the directory cannot be written, when it can again, and about what
	// Open has found. nil: nothing is logged.
	Log *slog.Logger
}

// Store is the memory of a gateway in a directory. It is safe for concurrent use.
type Store struct{ *store }

// Open locks the directory, which is made where it is missing, and reads it. A directory that another process has open, a
// file that is damaged, foreign or of a newer version is an error that says what to do; then nothing
// has been written. Open is to be followed by Run and, at the end, by Close.
func Open(dir string, o Options) (*Store, error) {
	s, err := open(dir, o)
	if err != nil {
		return nil, err
	}
	return &Store{s}, nil
}

// Append implements broker.Engine. A stored event is in a file before anybody sees it; one that is not
// stored is never written. While the directory cannot be written it fails with
// broker.ErrUnavailable. It waits for the disk whatever ctx says.
func (s *Store) Append(ctx context.Context, p broker.Publication) (broker.Position, error) {
	return s.append(ctx, p)
}

// Log implements broker.Engine. It is always the same one.
func (s *Store) Log() *broker.Log { return s.log }

// Run implements broker.Engine: it trims, syncs, compacts, and tries again to write where that has
// failed. It ends with ctx; then the log is closed. Put, Delete and Survivors work until Close.
func (s *Store) Run(ctx context.Context) error { return s.run(ctx) }

// Put writes the record of a connection, in place of the one that it has, if any. It returns an
// error while the directory cannot be written; then the record that was there stays.
func (s *Store) Put(token broker.Token, record []byte) error { return s.put(token, record) }

// Delete removes the record of a connection, if there is one. What cannot be
// written is remembered, and written as soon as it can be. The error says so, and nothing is to be done about it: only if
// the process ends before is the record there at the next Open.
func (s *Store) Delete(token broker.Token) error { return s.delete(token) }

// Survivors returns the records that Open has found, the oldest first, without those that were
// deleted since. It is for one use. Records may be put and deleted meanwhile, also by the loop's body.
func (s *Store) Survivors() iter.Seq2[broker.Token, []byte] { return s.survivors() }

// Away returns for how long the directory has not been writable; 0 means that it is.
func (s *Store) Away() time.Duration { return s.away() }

// Close is a clean stop, after Run has ended: the next Open continues exactly here, whatever happens to the
// machine. Its error means that this is not so: some of the last second may be missing then, and records that were
// deleted may be back.
func (s *Store) Close() error { return s.close() }
