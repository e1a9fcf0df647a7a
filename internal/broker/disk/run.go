package disk

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"ssegateway/internal/journal"
)

// upkeepInterval is how often what is old is dropped, what was written is synced, and a directory that
// could not be written is tried again.
const upkeepInterval = time.Second

// Run implements broker.Engine: it trims, syncs, compacts, and tries again to write where that has
// failed. It ends with ctx; then the log is closed. Put, Delete and Survivors work until Close.
func (s *Store) Run(ctx context.Context) error {
	ticker := time.NewTicker(upkeepInterval)
	defer ticker.Stop()
	defer s.log.Close()
	defer s.events.Stop() // before: what is in the file is in the log
	told := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			s.log.Trim()
			told = s.tell(told, s.upkeep())
		}
	}
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

// tell logs when the upkeep begins to fail, and when it works again.
func (s *Store) tell(told string, err error) string {
	now := ""
	if err != nil {
		now = err.Error()
	}
	switch {
	case now != "" && told == "" && s.Away() > 0:
		s.o.Log.Warn("the state directory cannot be written: events are refused, and streams open without a record", slog.String("error", now))
	case now != "" && told == "":
		s.o.Log.Error("the state directory grows, since what is old in it cannot be removed", slog.String("error", now))
	case now == "" && told != "":
		s.o.Log.Info("the state directory can be written again")
	}
	return now
}
