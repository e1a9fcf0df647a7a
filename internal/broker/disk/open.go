package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/journal"
)

// segmentBytes is the size at which a file is followed by another.
const segmentBytes = 16 << 20

// env is what a test puts in the place of the world.
type env struct {
	journal.Env
	segmentBytes int64
}

// OpenIn is Open in a world of a test's own, with segments of another size.
func OpenIn(dir string, o Options, world journal.Env, segmentBytes int64) (*Store, error) {
	return open(dir, o, env{world, segmentBytes})
}

// logs are the names of the logs in a directory.
var logs = []string{"events", "records"}

// Look looks at a directory without changing it. inUse says that a process has it open. Otherwise the
// error is what is wrong with its files, as far as their beginnings show; a directory that is missing
// is fine.
func Look(dir string) (inUse bool, err error) {
	inUse, err = journal.Look(dir, logs...)
	return inUse, advised(err)
}

// advised says what to do about an error of rights.
func advised(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: give the directory to user %d, as whom the gateway runs", err, os.Getuid())
	}
	return err
}

func open(dir string, o Options, env env) (_ *Store, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d, err := journal.OpenDir(dir, env.Env, logs...)
	if err != nil {
		return nil, advised(err)
	}
	s := &Store{dir: d, o: o, keys: broker.NewKeys(), values: map[uint64]int{}}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	if err := s.read(); err != nil {
		return nil, err
	}
	if !d.KnowsBoot() && !o.Sync {
		o.Log.Warn("STATE_DIR: this system does not tell whether the machine was booted (on Linux /proc/sys/kernel/random/boot_id does), so after each kill the log " +
			"gets a new epoch, and clients a gap: let the gateway read that, or set STATE_SYNC=always")
	}
	// From here on the directory is written.
	w := journal.Options{SegmentBytes: env.segmentBytes, Sync: o.Sync, Begin: s.begin}
	if err := s.events.Start(w); err != nil {
		return nil, fmt.Errorf("writing the log of events: %w", err)
	}
	w.Begin = func(*journal.Batch, uint64) {}
	if err := s.records.Log().Start(w); err != nil {
		return nil, fmt.Errorf("writing the records of connections: %w", err)
	}
	return s, nil
}

// outline is what has to be known of the log of events before it is restored.
type outline struct {
	epoch string // each event has it in its id
	first *begin // nil: there is nothing
}

func (o *outline) read(r journal.Record) error {
	switch r.Kind {
	case kindBeginning:
		epoch, b, err := parseBeginning(r.Data)
		o.epoch = epoch
		if o.first == nil {
			o.first = &b
		}
		return err
	case kindEvent, kindRemoval:
		return nil
	}
	return fmt.Errorf("a record has the kind %d, of a newer version", r.Kind)
}

// read restores what the directory has.
func (s *Store) read() (err error) {
	now := time.Now()
	var o outline
	if s.events, err = s.dir.Open("events", o.read); err != nil {
		return err
	}
	if s.records, err = s.dir.OpenTable("records"); err != nil {
		return err
	}
	if o.first == nil && len(s.records.Keys(kindRetained))+len(s.records.Keys(kindKey)) > 0 {
		return s.dir.Bad("events-*.journal", "is missing, though there are records of its events")
	}
	lost := s.events.Lost()
	if lost || o.epoch == "" {
		o.epoch = broker.NewEpoch()
	}
	s.log = broker.NewLog(o.epoch, s.o.MaxBytes, s.o.MaxAge)
	s.log.LimitRetained(s.o.RetainedBytes)
	if o.first != nil {
		if err := s.readRetained(*o.first, now); err != nil {
			return err
		}
		keys, err := s.readKeys()
		if err != nil {
			return err
		}
		err = s.events.Again(func(r journal.Record) error {
			e, err := s.replay(r, now)
			if e.IdempotencyKey != "" {
				keys = append(keys, e.withoutEvent())
			}
			return err
		})
		if err != nil {
			return err
		}
		s.restoreKeys(keys)
	}
	s.found = s.records.Keys(kindConnection)
	if n := s.events.Dropped() + s.records.Log().Dropped(); n > 0 {
		s.o.Log.Info("a write that was cut off, and so was never answered, is dropped", slog.Int64("bytes", n))
	}
	if lost {
		s.o.Log.Warn("the machine has stopped before all of the log was on its disk: the log goes on under a new epoch, so clients that come back get a gap")
	}
	return nil
}

// replay adds a record of the log of events to the log in memory, which trims it as it has then, and returns it.
func (s *Store) replay(r journal.Record, now time.Time) (e stored, err error) {
	if r.Kind == kindBeginning {
		_, b, err := parseBeginning(r.Data)
		if err != nil {
			return e, err
		}
		if len(s.begins) > 0 && (b.last != s.latest.last || b.stored != s.latest.stored) {
			return e, fmt.Errorf("it begins behind the event %d, and the last one is %d", b.last, s.latest.last)
		}
		b.segment = r.At.Segment
		s.latest = b
		s.reserved = max(s.reserved, b.last)
		s.begins = append(s.begins, b)
		return e, nil
	}
	if e, err = parseEvent(r.Kind, r.Data); err != nil {
		return e, err
	}
	if len(s.begins) == 0 || e.offset <= s.reserved {
		return e, errors.New("an event is not in its place")
	}
	s.reserved = e.offset
	if e.at.After(now) { // the clock was put back
		e.at = now
	}
	s.latest.take(&e)
	_, err = s.log.AppendAt(e.Publication, e.offset, e.at)
	return e, err
}

// take notes what has come to be in the log.
func (b *begin) take(e *stored) {
	b.last = e.offset
	if e.Store {
		b.stored = e.offset
	}
}

// begin writes what a segment of events begins with.
func (s *Store) begin(b *journal.Batch, segment uint64) {
	dst, _ := b.Begin(kindBeginning)
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.latest
	next.segment = segment
	b.End(appendBeginning(dst, s.log.Epoch(), next))
	if n := len(s.begins); n > 0 && s.begins[n-1].segment == segment { // an attempt before this has failed
		s.begins = s.begins[:n-1]
	}
	s.begins = append(s.begins, next)
}
