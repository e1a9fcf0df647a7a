package disk

import (
	"crypto/rand"
	"slices"
	"strings"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/journal"
)

// An idempotency key is in the record of its event. Where no segment has that, the key has a record of its own in the table: from the
// beginning if the event is not stored, else from when its segment goes. That record goes when the memory forgets the key.

// tabled is a key with a record in the table. A record's id is used once, so that the removal of one never hits another of the same key.
type tabled struct {
	id  journal.Key
	key string
}

// put makes the record.
func (k tabled) put(e stored) journal.Change {
	e = e.withoutEvent()
	return journal.Change{Key: k.id, Data: appendEvent(nil, &e)}
}

// withoutEvent returns what has to be known of an event to remember its key.
func (e *stored) withoutEvent() stored {
	return stored{broker.Publication{IdempotencyKey: e.IdempotencyKey, Digest: e.Digest}, e.offset, e.at}
}

// addKeyed adds an event that is not stored, and has a key.
func (s *Store) addKeyed(p broker.Publication) (broker.Position, error) {
	k := tabled{journal.Key{Kind: kindKey}, strings.Clone(p.IdempotencyKey)}
	_, _ = rand.Read(k.id.ID[:]) // never fails
	record := k.put(stored{p, s.log.Position().Offset, time.Now()})
	if err := s.records.Put(record.Key, record.Data); err != nil {
		return broker.Position{}, refusal(err)
	}
	s.note(k)
	at, err := s.log.Append(p)
	if err != nil {
		_ = s.records.Delete(k.id) // it is owed
	}
	return at, err
}

// note notes which keys the table has.
func (s *Store) note(keys ...tabled) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tabled = append(s.tabled, keys...)
}

// readKeys reads the keys in the table.
func (s *Store) readKeys() ([]stored, error) {
	keys, ids, err := s.readTable(kindKey)
	for i, k := range keys {
		s.note(tabled{ids[i], k.IdempotencyKey})
	}
	return keys, err
}

// restoreKeys has the memory remember keys.
func (s *Store) restoreKeys(keys []stored) {
	slices.SortStableFunc(keys, func(a, b stored) int { return a.at.Compare(b.at) })
	for _, k := range keys {
		s.keys.Restore(k.IdempotencyKey, k.Digest, broker.Position{Epoch: s.log.Epoch(), Offset: k.offset}, k.at)
	}
}

// forget takes the oldest keys out of the table that the memory does not know any more.
func (s *Store) forget() error {
	s.mu.Lock()
	list := s.tabled
	s.tabled = nil
	s.mu.Unlock()
	var changes []journal.Change
	for len(changes) < len(list) && !s.keys.Knows(list[len(changes)].key) {
		changes = append(changes, journal.Change{Key: list[len(changes)].id, Remove: true})
	}
	list = slices.Delete(list, 0, len(changes))
	s.mu.Lock()
	s.tabled = append(list, s.tabled...)
	s.mu.Unlock()
	return s.records.Update(changes) // what it cannot write is owed
}
