package disk

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/journal"
)

// upkeepInterval is how often what is old is dropped, what was written is synced, and a directory that
// could not be written is tried again.
const upkeepInterval = time.Second

// Run implements broker.Engine: it trims, syncs, compacts, and tries again to write where that has
// failed. It ends with ctx; then the log is closed. Put, Delete and Survivors work until Close.
func (s *Store) Run(ctx context.Context) error {
	defer s.log.Close()
	defer s.events.Stop() // before: what is in the file is in the log
	said := ""
	broker.Every(ctx, upkeepInterval, func() {
		s.log.Trim()
		said = s.say(said, s.upkeep())
	})
	return nil
}

// upkeep does what is due.
func (s *Store) upkeep() error {
	var errs []error
	for _, l := range []*journal.Log{s.events, s.records.Log()} {
		err := l.Probe()
		if err == nil && !s.o.Sync {
			err = l.Sync()
		}
		errs = append(errs, err)
	}
	errs = append(errs, s.records.Settle(), s.drop(), s.forget(), s.records.Compact())
	return errors.Join(errs...)
}

// trimmed returns the segment before which all events are trimmed.
func (s *Store) trimmed() uint64 {
	trimmed := s.log.Stats().Trimmed
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.begins) > 1 && s.begins[1].stored <= trimmed {
		s.begins = s.begins[1:]
	}
	return s.begins[0].segment
}

const (
	saidAway  = "the state directory cannot be written: events are refused, and streams open without a record"
	saidGrows = "the state directory grows, since what is old in it cannot be removed"
)

// say logs what the upkeep's error means, unless that was said last. It returns what is said.
func (s *Store) say(before string, err error) (now string) {
	switch {
	case err == nil:
	case s.Away() > 0:
		now = saidAway
	default:
		now = saidGrows
	}
	switch {
	case now == before:
	case now == saidAway:
		s.o.Log.Warn(now, slog.String("error", err.Error()))
	case now == saidGrows:
		s.o.Log.Error(now, slog.String("error", err.Error()))
	case before == saidAway:
		s.o.Log.Info("the state directory can be written again")
	default:
		s.o.Log.Info("what is old in the state directory can be removed again")
	}
	return now
}
