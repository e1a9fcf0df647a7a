package nats

import (
	"context"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	tidyInterval = 10 * time.Second // at least, between looks at the store of retained events
	tidyTimeout  = 5 * time.Minute
	tidyMargin   = 16 << 20 // of what does not count any more in the store, beside as much as counts
)

// tidy purges what does not count any more from the store of retained events, if there is much of it.
// NATS could do that by itself (MaxMsgsPerSubject), but what it drops it leaves no trace of: after a
// removal and a kill the event before the removed one would be back. Several nodes may do it at once.
func (e *Engine) tidy(ctx context.Context) {
	e.mu.Lock()
	s := e.session
	e.mu.Unlock()
	if s == nil || s.storeID() == "" || e.conn.Away() > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tidyTimeout)
	defer cancel()
	store, err := s.js.Stream(ctx, s.storeName())
	if err != nil || int64(store.CachedInfo().State.Bytes) < 2*s.log.Stats().RetainedBytes+tidyMargin { //nolint:gosec // it is not so large
		return
	}
	if err := s.tidyStore(ctx, store); err != nil && ctx.Err() == nil {
		e.conn.lines.untidy.Log(e.conn.log, slog.LevelWarn, "the store of retained events cannot be tidied", slog.String("error", err.Error()))
	}
}

// tidyStore purges events first, and then the removals that they needed: so a kill in between brings
// nothing back.
func (e *session) tidyStore(ctx context.Context, store jetstream.Stream) error {
	copies, err := e.readStore(ctx)
	if err != nil {
		return err
	}
	events, removals := superfluous(copies)
	for _, upto := range []map[string]uint64{events, removals} {
		for subject, sequence := range upto {
			if err := store.Purge(ctx, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeSequence(sequence+1)); err != nil {
				return err
			}
		}
	}
	return nil
}

// superfluous returns the last sequence that does not count any more of each subject: where that is
// an event, or has a newer one, and where it is a removal that nothing needs.
func superfluous(copies []copyOf) (events, removals map[string]uint64) {
	type place struct{ topic, key string }
	var (
		last   = map[place]int{}              // the copy that said last what is in a place
		keys   = map[string]map[string]bool{} // of a topic's places
		counts = make([]int, len(copies))     // the places in which it is
		needed = make([]bool, len(copies))
	)
	touch := func(i int, p place) {
		if before, ok := last[p]; ok && copies[before].Retain {
			counts[before]--
		}
		last[p] = i
		if keys[p.topic] == nil {
			keys[p.topic] = map[string]bool{}
		}
		keys[p.topic][p.key] = true
	}
	for i, c := range copies {
		for _, topic := range c.Topics {
			switch {
			case c.Retain:
				counts[i]++
				touch(i, place{topic, c.Key})
			case c.Key != "":
				touch(i, place{topic, c.Key})
			default:
				for key := range keys[topic] {
					touch(i, place{topic, key})
				}
			}
		}
	}
	for i, c := range copies { // an event that counts for some of its topics needs what was said of the others
		if counts[i] > 0 {
			for _, topic := range c.Topics {
				needed[last[place{topic, c.Key}]] = true
			}
		}
	}
	events, removals = map[string]uint64{}, map[string]uint64{}
	newest := map[string]int{}
	for i, c := range copies {
		if before, ok := newest[c.subject]; ok {
			events[c.subject] = max(events[c.subject], copies[before].sequence)
		}
		newest[c.subject] = i
	}
	for subject, i := range newest {
		switch {
		case needed[i]:
		case copies[i].Retain:
			events[subject] = copies[i].sequence
		default:
			removals[subject] = copies[i].sequence
		}
	}
	return events, removals
}
