package disk

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/journal"
)

// Retained events and keys may outlive the segment that they are in. Before it goes they are copied to the table.
// A start restores what was copied from segments that are gone, in its order, and then the segments that are there. So
// what was retained or removed there, behind the copies, has its effect on them again.

func retainedID(offset uint64) (k journal.Key) {
	k.Kind = kindRetained
	binary.LittleEndian.PutUint64(k.ID[8:], offset)
	return k
}

func keyID(key string) journal.Key {
	sum := sha256.Sum256([]byte(key))
	return journal.Key{Kind: kindKey, ID: [16]byte(sum[:])}
}

// copied is a key in the table.
type copied struct {
	id journal.Key
	at time.Time
}

// readTable restores what was copied from segments before the first that is there.
func (s *Store) readTable(first begin, now time.Time) error {
	retained, err := s.readEvents(kindRetained, kindEvent)
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
	keys, err := s.readEvents(kindKey, kindRepeat)
	if err != nil {
		return err
	}
	slices.SortFunc(keys, func(a, b stored) int { return a.at.Compare(b.at) })
	for _, e := range keys {
		s.copied = append(s.copied, copied{keyID(e.IdempotencyKey), e.at})
		s.keys.Restore(e.IdempotencyKey, e.Digest, broker.Position{Epoch: s.log.Epoch(), Offset: e.offset}, e.at)
	}
	return nil
}

// readEvents reads what the table has of a kind, as records of another kind in the log.
func (s *Store) readEvents(kind, as byte) (list []stored, err error) {
	r := s.records.Log().Reader()
	defer r.Close()
	for _, k := range s.records.Keys(kind) {
		data, err := s.records.Get(r, k)
		if err != nil {
			return nil, err
		}
		e, err := parseEvent(as, data)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
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
			changes = append(changes, journal.Change{Key: retainedID(offset), Remove: true})
			continue
		}
		data, err := s.records.Get(r, retainedID(offset))
		if err != nil {
			return err
		}
		e, err := parseEvent(kindEvent, data)
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
	return journal.Change{Key: retainedID(e.offset), Data: appendEvent(nil, &e)}
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
	now := time.Now()
	var events []stored
	last := uint64(0) // as begin.last
	err := s.events.Scan(segment, func(r journal.Record) error {
		if r.Kind == kindBeginning {
			_, b, err := parseBeginning(r.Data)
			last = b.last
			return err
		}
		e, err := parseEvent(r.Kind, r.Data)
		events = append(events, e)
		return err
	})
	if err != nil {
		return err
	}
	var changes []journal.Change
	var keys []copied
	for _, e := range events {
		if e.kind() == kindRepeat {
			e.offset = last
		}
		last = e.offset
		if topics := held[e.offset]; e.Retain && len(topics) > 0 && s.values[e.offset] != len(topics) {
			changes = append(changes, keep(e, topics))
		}
		if e.IdempotencyKey != "" && now.Sub(e.at) < broker.KeyLife {
			k := stored{broker.Publication{IdempotencyKey: e.IdempotencyKey, Digest: e.Digest}, e.offset, e.at}
			keys = append(keys, copied{keyID(e.IdempotencyKey), e.at})
			changes = append(changes, journal.Change{Key: keyID(e.IdempotencyKey), Data: appendEvent(nil, &k)})
		}
	}
	if err := s.update(changes, held); err != nil {
		return err
	}
	s.copied = append(s.copied, keys...)
	return nil
}

// forget takes keys out of the table that are too old.
func (s *Store) forget() error {
	var changes []journal.Change
	for len(s.copied) > 0 && time.Since(s.copied[0].at) >= broker.KeyLife {
		changes = append(changes, journal.Change{Key: s.copied[0].id, Remove: true})
		s.copied = s.copied[1:]
	}
	return s.records.Update(changes) // what it cannot write is owed
}
