package disk

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/journal"
)

// segmentBytes is the size at which a file is followed by another. Twice as much is the least that the
// directory needs.
const segmentBytes = 16 << 20

// env is what a test puts in the place of the world.
type env struct {
	journal.Env
	segmentBytes int64
}

// logs are the names of the logs in a directory.
var logs = []string{"events", "records"}

// Look looks at a directory without changing it. inUse says that a process has it open. Otherwise the
// error is what is wrong with its files, as far as their beginnings show; a directory that is missing
// is fine.
func Look(dir string) (inUse bool, err error) { return journal.Look(dir, logs...) }

func open(dir string, o Options, env env) (_ *Store, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d, err := journal.OpenDir(dir, env.Env, logs...)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: d, o: o}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	if err := s.read(); err != nil {
		return nil, err
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

// read restores what the directory has.
func (s *Store) read() (err error) {
	began := time.Now()
	epoch := ""
	// The epoch first: it is in each event as clients get it.
	s.events, err = s.dir.Open("events", func(r journal.Record) error {
		switch r.Kind {
		case kindBeginning:
			at, err := parseBeginning(r.Data)
			epoch = at.Epoch
			return err
		case kindEvent:
			return nil
		}
		return unknownKind(r)
	})
	if err != nil {
		return err
	}
	if s.records, err = s.dir.OpenTable("records"); err != nil {
		return err
	}
	lost := s.events.Lost()
	if lost || epoch == "" {
		epoch = broker.NewEpoch()
	}
	s.log = broker.NewLog(epoch, s.o.MaxBytes, s.o.MaxAge)
	if err := s.events.Again(func(r journal.Record) error { return s.replay(r, began) }); err != nil {
		return err
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

func unknownKind(r journal.Record) error {
	return fmt.Errorf("a record has the kind %d, of a newer version", r.Kind)
}

// replay adds a record of the log of events to the log in memory, which trims it as it has then.
func (s *Store) replay(r journal.Record, now time.Time) error {
	if r.Kind == kindBeginning {
		at, err := parseBeginning(r.Data)
		if err != nil {
			return err
		}
		if len(s.begins) == 0 {
			s.log.BeginAt(at.Offset)
			s.written, s.reserved = at.Offset, at.Offset
		}
		if at.Offset != s.written {
			return fmt.Errorf("it begins behind the event %d, and the last one is %d", at.Offset, s.written)
		}
		s.begins = append(s.begins, begin{r.At.Segment, at.Offset})
		return nil
	}
	e, err := parseEvent(r.Data)
	if err != nil {
		return err
	}
	if len(s.begins) == 0 || e.offset <= s.written {
		return errors.New("an event is not in its place")
	}
	s.written, s.reserved = e.offset, e.offset
	if e.at.After(now) { // the clock was put back
		e.at = now
	}
	_, err = s.log.AppendAt(e.Publication, e.offset, e.at)
	return err
}

// begin is where a segment begins.
type begin struct {
	segment uint64
	offset  uint64 // of the last stored event before it
}

// begin writes what a segment of events begins with.
func (s *Store) begin(b *journal.Batch, segment uint64) {
	dst, _ := b.Begin(kindBeginning)
	s.mu.Lock()
	defer s.mu.Unlock()
	b.End(appendBeginning(dst, s.log.Epoch(), s.written))
	if n := len(s.begins); n > 0 && s.begins[n-1].segment == segment { // an attempt before this has failed
		s.begins = s.begins[:n-1]
	}
	s.begins = append(s.begins, begin{segment, s.written})
}
