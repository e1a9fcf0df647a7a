package disk

import (
	"encoding/binary"
	"slices"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/journal"
)

// Retained events and idempotency keys may outlive the segment that they are in. Before it goes they are copied to the table.
// A start restores what was copied from segments that are gone, in its order, and then the segments that are there. So
// what was retained or removed there, behind the copies, has its effect on them again.

// copyID names what was copied from the event with an offset.
func copyID(kind byte, offset uint64) (k journal.Key) {
	k.Kind = kind
	binary.LittleEndian.PutUint64(k.ID[8:], offset)
	return k
}

// readRetained restores the retained events that were copied from segments before the first that is there.
func (s *Store) readRetained(first begin, now time.Time) error {
	retained, _, err := s.readTable(kindRetained)
	if err != nil {
		return err
	}
	slices.SortFunc(retained, func(a, b stored) int { return int(a.offset) - int(b.offset) }) //nolint:gosec // offsets stay below 2^63
	for _, e := range retained {
		s.values[e.offset] = len(e.Topics)
		if e.offset > first.last {
			continue // it is there
		}
		s.log.Restore(e.Publication, broker.Position{Epoch: s.log.Epoch(), Offset: e.offset})
	}
	s.log.BeginAt(first.stored)
	if first.last > first.stored {
		if _, err := s.log.AppendAt(broker.Publication{Remove: true}, first.last, now); err != nil {
			return err
		}
	}
	return nil
}

// readTable reads the events or keys that the table has of a kind, in the order in which they were written.
func (s *Store) readTable(kind byte) (list []stored, ids []journal.Key, err error) {
	r := s.records.Log().Reader()
	defer r.Close()
	ids = s.records.Keys(kind)
	for _, k := range ids {
		data, err := s.records.Get(r, k)
		if err != nil {
			return nil, nil, err
		}
		e, err := parseEvent(kind, data)
		if err != nil {
			return nil, nil, err
		}
		list = append(list, e)
	}
	return list, ids, nil
}

// drop removes segments of events that are trimmed, once what is still needed of them is in the table.
func (s *Store) drop() error {
	before := s.trimmed()
	segments := s.events.Segments()
	segments = segments[:len(segments)-1]
	if len(segments) == 0 || segments[0].Number >= before {
		return nil
	}
	held := s.held()
	if err := s.events.Sync(); err != nil { // what is not held any more has a successor or a removal: before its copy goes
		return err
	}
	if err := s.settle(held); err != nil {
		return err
	}
	for _, segment := range segments {
		if segment.Number >= before {
			break
		}
		if err := s.rescue(segment.Number, held); err != nil {
			return err
		}
	}
	if err := s.records.Log().Sync(); err != nil { // before what it replaces is gone
		return err
	}
	return s.events.Drop(before)
}

// held returns the topics that each retained event has.
func (s *Store) held() map[uint64][]string {
	held := map[uint64][]string{}
	for more, cursor := true, (broker.RetainedCursor{}); more; {
		var list []broker.Retained
		list, cursor, more = s.log.Retained("", cursor, 1000, 1<<40)
		for _, r := range list {
			held[r.Record.Offset] = append(held[r.Record.Offset], r.Topic)
		}
	}
	return held
}

// settle takes those out of the table that have been replaced or removed since.
func (s *Store) settle(held map[uint64][]string) error {
	r := s.records.Log().Reader()
	defer r.Close()
	var changes []journal.Change
	for offset, topics := range s.values {
		now := held[offset]
		switch {
		case len(now) == topics:
			continue
		case len(now) == 0:
			changes = append(changes, journal.Change{Key: copyID(kindRetained, offset), Remove: true})
			continue
		}
		data, err := s.records.Get(r, copyID(kindRetained, offset))
		if err != nil {
			return err
		}
		e, err := parseEvent(kindRetained, data)
		if err != nil {
			return err
		}
		changes = append(changes, keep(e, now))
	}
	return s.update(changes, held)
}

// keep puts a retained event into the table, with the topics that it has.
func keep(e stored, topics []string) journal.Change {
	e.Topics = topics
	return journal.Change{Key: copyID(kindRetained, e.offset), Data: appendEvent(nil, &e)}
}

// update changes the table, and notes which retained events it has.
func (s *Store) update(changes []journal.Change, held map[uint64][]string) error {
	if err := s.records.Update(changes); err != nil {
		return err // what was made of it is made again
	}
	for _, c := range changes {
		switch offset := binary.LittleEndian.Uint64(c.Key.ID[8:]); {
		case c.Key.Kind != kindRetained:
		case c.Remove:
			delete(s.values, offset)
		default:
			s.values[offset] = len(held[offset])
		}
	}
	return nil
}

// rescue copies what is still needed of a segment.
func (s *Store) rescue(segment uint64, held map[uint64][]string) error {
	var changes []journal.Change
	var keys []tabled
	err := s.events.Scan(segment, func(r journal.Record) error {
		if r.Kind == kindBeginning {
			return nil
		}
		e, err := parseEvent(r.Kind, r.Data)
		if err != nil {
			return err
		}
		if topics := held[e.offset]; e.Retain && len(topics) > 0 && s.values[e.offset] != len(topics) {
			changes = append(changes, keep(e, topics))
		}
		if e.IdempotencyKey != "" && s.keys.Knows(e.IdempotencyKey) {
			k := tabled{copyID(kindKey, e.offset), e.IdempotencyKey}
			keys = append(keys, k)
			changes = append(changes, k.put(e))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.update(changes, held); err != nil {
		return err
	}
	s.note(keys...)
	return nil
}
