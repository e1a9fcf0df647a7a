package journal

import (
	"cmp"
	"errors"
	"slices"
	"sync"
)

// Key names a value of a Table.
type Key struct {
	Kind byte // 1 to 127
	ID   [16]byte
}

// removed is the bit of a record's kind that says that its key has no value any more.
const removed = 0x80

// Table has the newest value of each key on a Log, and only their places in memory. It is safe for concurrent use.
//
// All that is done to a key is done under the lock of its stripe, up to the end of the write. So the last record of a key
// in the log is the one that counts, and what is moved forward is never older than what it comes behind.
type Table struct {
	log     *Log
	stripes [256]stripe

	mu    sync.Mutex
	live  map[uint32]int // values by segment
	bytes int64          // of all values, as records
}

type stripe struct {
	mu   sync.Mutex
	at   map[Key]spot
	owed map[Key]struct{} // removals that could not be written
}

// spot is a Place and a length in little space: there may be millions of them.
type spot struct{ segment, offset, bytes uint32 }

func spotOf(at Place, data int) spot {
	return spot{uint32(at.Segment), uint32(at.Offset), uint32(recordBytes + data)} //nolint:gosec // no file comes near 4 GiB, and no number that high
}

func (s spot) place() Place { return Place{uint64(s.segment), int64(s.offset)} }

// OpenTable reads a table of a directory. Nothing is written before Start.
func (d *Dir) OpenTable(name string) (*Table, error) {
	t := &Table{live: map[uint32]int{}}
	l, err := d.Open(name, t.replay)
	if err != nil {
		return nil, err
	}
	t.log = l
	return t, nil
}

// Log returns the log that has the values. Only the table appends to it.
func (t *Table) Log() *Log { return t.log }

func (t *Table) replay(r Record) error {
	k := Key{Kind: r.Kind &^ removed}
	if copy(k.ID[:], r.Data) < len(k.ID) {
		return errors.New("a key is too short")
	}
	s := t.stripe(k)
	if r.Kind&removed != 0 {
		s.remove(t, k)
		return nil
	}
	to := spotOf(r.At, len(r.Data))
	t.count(to)
	s.set(t, k, to)
	return nil
}

func (t *Table) stripe(k Key) *stripe { return &t.stripes[k.ID[len(k.ID)-1]] }

// count counts a value at its place.
func (t *Table) count(at spot) {
	t.mu.Lock()
	t.live[at.segment]++
	t.bytes += int64(at.bytes)
	t.mu.Unlock()
}

func (t *Table) discount(at spot) {
	t.mu.Lock()
	t.live[at.segment]--
	t.bytes -= int64(at.bytes)
	t.mu.Unlock()
}

// set notes a key's new place, which has been counted.
func (s *stripe) set(t *Table, k Key, to spot) {
	old, there := s.at[k]
	if there {
		t.discount(old)
	}
	if s.at == nil {
		s.at = map[Key]spot{}
	}
	s.at[k] = to
	delete(s.owed, k)
}

func (s *stripe) remove(t *Table, k Key) (there bool) {
	old, there := s.at[k]
	if there {
		t.discount(old)
		delete(s.at, k)
	}
	return there
}

// value is a record on its way into the log.
type value struct {
	key   Key
	gone  bool
	data  []byte
	place int64
	at    spot
}

// values is an entry of several of them.
type values struct {
	table *Table
	list  []value
}

func (v *values) Records(b *Batch) {
	for i := range v.list {
		e := &v.list[i]
		kind := e.key.Kind
		if e.gone {
			kind |= removed
		}
		dst, place := b.Begin(kind)
		b.End(append(append(dst, e.key.ID[:]...), e.data...))
		e.place = place
	}
}

// Written counts the values at once, so that their segment is not taken for an empty one.
func (v *values) Written(frame Place) {
	for i := range v.list {
		e := &v.list[i]
		if !e.gone {
			e.at = spotOf(Place{frame.Segment, frame.Offset + e.place}, len(e.key.ID)+len(e.data))
			v.table.count(e.at)
		}
	}
}

// Change is what Update does to a key.
type Change struct {
	Key    Key
	Data   []byte // its value from now on
	Remove bool   // it has none
}

// Put gives a key a value. After an error the key has the value that it had before.
func (t *Table) Put(k Key, data []byte) error {
	return t.change(t.stripe(k), []Change{{Key: k, Data: data}})
}

// Delete removes a key, if it is there. After an error the removal is owed: Settle writes it.
func (t *Table) Delete(k Key) error {
	return t.change(t.stripe(k), []Change{{Key: k, Remove: true}})
}

// Update makes many changes with few writes. After an error each of them is made, or is as after an error of Put or Delete.
func (t *Table) Update(changes []Change) error {
	var by [len(t.stripes)][]Change
	for _, c := range changes {
		i := c.Key.ID[len(c.Key.ID)-1]
		by[i] = append(by[i], c)
	}
	var errs []error
	for i := range by {
		errs = append(errs, t.change(&t.stripes[i], by[i]))
	}
	return errors.Join(errs...)
}

// change makes changes of one stripe.
func (t *Table) change(s *stripe, changes []Change) error {
	if len(changes) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := values{t, make([]value, 0, len(changes))}
	for _, c := range changes {
		if !c.Remove || s.remove(t, c.Key) {
			e.list = append(e.list, value{key: c.Key, data: c.Data, gone: c.Remove})
		}
	}
	if len(e.list) == 0 {
		return nil
	}
	err := t.log.Append(&e)
	unknown := err != nil && !errors.Is(err, ErrAway) && !errors.Is(err, ErrClosed)
	for _, v := range e.list {
		switch _, there := s.at[v.key]; {
		case err == nil && !v.gone:
			s.set(t, v.key, v.at)
		case err != nil && v.gone:
			s.owe(v.key)
		case unknown && !there: // the value may be in the file after all
			s.owe(v.key)
		}
	}
	return err
}

func (s *stripe) owe(k Key) {
	if s.owed == nil {
		s.owed = map[Key]struct{}{}
	}
	s.owed[k] = struct{}{}
}

// Settle writes the removals that are owed.
func (t *Table) Settle() error {
	for i := range t.stripes {
		if err := t.settle(&t.stripes[i]); err != nil {
			return err
		}
	}
	return nil
}

func (t *Table) settle(s *stripe) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.owed) == 0 {
		return nil
	}
	e := values{table: t}
	for k := range s.owed {
		e.list = append(e.list, value{key: k, gone: true})
	}
	if err := t.log.Append(&e); err != nil {
		return err
	}
	s.owed = nil
	return nil
}

// Keys returns the keys of a kind, in the order in which their values were written.
func (t *Table) Keys(kind byte) []Key {
	type placed struct {
		key Key
		at  spot
	}
	var list []placed
	for i := range t.stripes {
		s := &t.stripes[i]
		s.mu.Lock()
		for k, at := range s.at {
			if k.Kind == kind {
				list = append(list, placed{k, at})
			}
		}
		s.mu.Unlock()
	}
	slices.SortFunc(list, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.at.segment, b.at.segment), cmp.Compare(a.at.offset, b.at.offset))
	})
	keys := make([]Key, len(list))
	for i, p := range list {
		keys[i] = p.key
	}
	return keys
}

// Get reads the value of a key with a Reader of the table's log. It is nil if there is none.
func (t *Table) Get(r *Reader, k Key) ([]byte, error) {
	s := t.stripe(k)
	s.mu.Lock() // so that its segment stays
	defer s.mu.Unlock()
	at, there := s.at[k]
	if !there {
		return nil, nil
	}
	_, data, err := r.Read(at.place())
	if err != nil {
		return nil, err
	}
	return data[min(len(k.ID), len(data)):], nil
}

// Compact empties and removes old segments while the log has many more than its values need.
func (t *Table) Compact() error {
	for {
		segments := t.log.Segments()
		oldest := spotOf(Place{Segment: segments[0].Number}, 0).segment
		t.mu.Lock()
		live, room := t.live[oldest], t.bytes/t.log.o.SegmentBytes
		t.mu.Unlock()
		if len(segments) < 2 || live > 0 && int64(len(segments)) <= 2*(room+1)+2 {
			return nil
		}
		if live > 0 {
			if err := t.empty(segments[0].Number); err != nil {
				return err
			}
			if err := t.log.Sync(); err != nil { // before what it replaces is gone
				return err
			}
		}
		t.mu.Lock()
		live = t.live[oldest]
		delete(t.live, oldest)
		t.mu.Unlock()
		if live != 0 {
			return errors.New("a segment of records has values that were not found in it")
		}
		if err := t.log.Drop(segments[0].Number + 1); err != nil {
			return err
		}
	}
}

// empty writes the values of a segment again.
func (t *Table) empty(segment uint64) error {
	var moves [len(t.stripes)][]value
	err := t.log.Scan(segment, func(r Record) error {
		if r.Kind&removed != 0 {
			return nil
		}
		k := Key{Kind: r.Kind}
		n := copy(k.ID[:], r.Data)
		i := k.ID[len(k.ID)-1]
		moves[i] = append(moves[i], value{key: k, data: r.Data[n:], place: r.At.Offset})
		return nil
	})
	if err != nil {
		return err
	}
	for i := range moves {
		if err := t.move(&t.stripes[i], segment, moves[i]); err != nil {
			return err
		}
	}
	return nil
}

// move writes values of one stripe again that are still the newest of their keys.
func (t *Table) move(s *stripe, segment uint64, list []value) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := values{table: t}
	for _, v := range list {
		if at, there := s.at[v.key]; there && at.place() == (Place{segment, v.place}) {
			e.list = append(e.list, v)
		}
	}
	if len(e.list) == 0 {
		return nil
	}
	if err := t.log.Append(&e); err != nil {
		return err
	}
	for _, v := range e.list {
		s.set(t, v.key, v.at)
	}
	return nil
}
