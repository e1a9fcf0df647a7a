package broker

import (
	"slices"
	"sort"
	"strconv"
)

const (
	// retentionOverhead is the size of a retained event in bytes for each topic that has it, without the names: its
	// entries in the indexes. It is counted, like recordOverhead.
	retentionOverhead = 200
	// nameOverhead is the size of a topic's name in a record, without its bytes.
	nameOverhead = 32
)

// retention is the retained events of a log: of each topic and key the last. It is guarded by the log's lock.
type retention struct {
	max, bytes int64
	reserved   int64 // bytes, for what is on its way into the log
	places     map[place]*kept
	topics     map[string]*keptList
	all        keptList
}

type place struct{ topic, key string }

// kept is a retained event.
type kept struct {
	record *Record
	key    string
	topics int // that have it
}

// keptList is retained events in the order of offsets. What leaves it is dead, until half of the list is: so a topic with
// many keys, in which one is replaced after the other, costs no more for each than one with few.
type keptList struct {
	at   []keptAt
	dead int
}

type keptAt struct {
	offset uint64
	kept   *kept // nil: dead
}

func (k *kept) cost() int64 { return k.record.keptCost() }

// keptCost is what a retained event takes as long as any of its topics has it, with the names of all. Its id counts as
// the longest one: so whatever is replaced by its like takes as much as before.
func (r *Record) keptCost() int64 {
	const longest = 20 // digits of an offset
	var digits [longest]byte
	n := int64(r.Frame.Size()+longest-len(strconv.AppendUint(digits[:0], r.Offset, 10))) + recordOverhead
	for _, t := range r.Topics {
		n += int64(len(t)) + nameOverhead
	}
	return n
}

func placeCost(topic, key string) int64 { return int64(len(topic)+len(key)) + retentionOverhead }

// need returns how many bytes more are retained with a record than without it.
func (s *retention) need(r *Record, key string) int64 {
	need := r.keptCost()
	for _, t := range r.Topics {
		if old := s.places[place{t, key}]; old == nil {
			need += placeCost(t, key)
		} else if old.topics--; old.topics == 0 {
			need -= old.cost()
		}
	}
	for _, t := range r.Topics { // leave tells it again, one by one
		if old := s.places[place{t, key}]; old != nil {
			old.topics++
		}
	}
	return need
}

// hasRoom reports whether so many bytes more are within the bound.
func (s *retention) hasRoom(need int64) bool { return need <= 0 || need <= s.max-s.bytes-s.reserved }

// retain retains a record in the places of its topics.
func (s *retention) retain(r *Record, key string) {
	k := &kept{record: r, key: key, topics: len(r.Topics)}
	if s.places == nil {
		s.places, s.topics = map[place]*kept{}, map[string]*keptList{}
	}
	for _, t := range r.Topics {
		s.leave(t, key)
		s.places[place{t, key}] = k
		list := s.topics[t]
		if list == nil {
			list = new(keptList)
			s.topics[t] = list
		}
		list.add(k)
		s.bytes += placeCost(t, key)
	}
	s.all.add(k)
	s.bytes += k.cost()
}

// leave frees a place, if it is taken, and reports whether it was.
func (s *retention) leave(topic, key string) bool {
	k := s.places[place{topic, key}]
	if k == nil {
		return false
	}
	delete(s.places, place{topic, key})
	s.bytes -= placeCost(topic, key)
	list := s.topics[topic]
	if list.remove(k); len(list.at) == 0 {
		delete(s.topics, topic)
	}
	if k.topics--; k.topics == 0 {
		s.bytes -= k.cost()
		s.all.remove(k)
	}
	return true
}

func (l *keptList) add(k *kept) { l.at = append(l.at, keptAt{k.record.Offset, k}) }

// remove removes an event that the list has.
func (l *keptList) remove(k *kept) {
	i := sort.Search(len(l.at), func(i int) bool { return l.at[i].offset >= k.record.Offset })
	for l.at[i].kept != k { // of two logs, say
		i++
	}
	l.at[i].kept = nil
	if l.dead++; 2*l.dead >= len(l.at) {
		l.at, l.dead = slices.DeleteFunc(l.at, func(a keptAt) bool { return a.kept == nil }), 0
	}
}

// behind returns the events of a list with offsets above after.
func (l *keptList) behind(after uint64) []keptAt {
	if l == nil {
		return nil
	}
	return l.at[sort.Search(len(l.at), func(i int) bool { return l.at[i].offset > after }):]
}

// remove removes what topics have retained, of one key or, if that is empty, of all, and returns how many those were.
func (s *retention) remove(topics []string, key string) (removed uint32) {
	for _, t := range topics {
		keys := []string{key}
		if key == "" {
			keys = nil
			for _, a := range s.topics[t].behind(0) {
				if a.kept != nil {
					keys = append(keys, a.kept.key)
				}
			}
		}
		for _, key := range keys {
			if s.leave(t, key) {
				removed++
			}
		}
	}
	if len(s.places) == 0 {
		s.places, s.topics, s.all = nil, nil, keptList{} // a map never shrinks
	}
	return removed
}

// Reserve reserves what p, which is to be retained, takes, until release is called. It reserves nothing, and returns
// false, if p is beyond the bound. What p would replace now is room for p, but is reserved as well: it may be gone when p comes.
// It is for engines that store an event before they append it.
func (l *Log) Reserve(p Publication) (release func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := record(p, Position{l.epoch, l.offset + 1})
	if !l.kept.hasRoom(l.kept.need(r, p.Key)) {
		return func() {}, false
	}
	cost := r.keptCost()
	for _, t := range r.Topics {
		cost += placeCost(t, p.Key)
	}
	l.kept.reserved += cost
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.kept.reserved -= cost
	}, true
}

// Retains reports whether any of the topics retains the record with that offset.
func (l *Log) Retains(topics []string, key string, offset uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(topics, func(t string) bool {
		k := l.kept.places[place{t, key}]
		return k != nil && k.record.Offset == offset
	})
}

// Restore retains or removes an event whose record the log does not have any more, whatever the bound; for engines only,
// in the order of the offsets, which are all below those of the log's records, and before anything is appended. The
// position may be that of an earlier log.
func (l *Log) Restore(p Publication, at Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.Remove {
		l.kept.remove(p.Topics, p.Key)
	} else {
		l.kept.retain(record(p, at), p.Key)
	}
}

// HasState reports whether State has anything up to an offset. It takes less than State does, for many topics.
func (l *Log) HasState(upto uint64, topics []string, rewind int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.kept.places) == 0 && rewind == 0 {
		return false
	}
	return slices.ContainsFunc(topics, func(t string) bool {
		r := run{kept: l.kept.topics[t].behind(0)}
		list := l.topics[t]
		return r.next(upto) || rewind > 0 && len(list) > 0 && list[0].Offset <= upto
	})
}

// State returns the retained records of any of the topics, and the newest stored records of each topic, as many as
// rewind says, all with offsets up to upto: of these those above after, each once and in order, at most limit of them.
func (l *Log) State(after, upto uint64, topics []string, rewind, limit int) (records []*Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.kept.places) == 0 && rewind == 0 {
		return nil
	}
	var h runs
	for _, t := range topics {
		if r := (run{kept: l.kept.topics[t].behind(after)}); r.next(upto) {
			h = append(h, r)
		}
		if rewind == 0 {
			continue
		}
		list := l.topics[t]
		end := sort.Search(len(list), func(i int) bool { return list[i].Offset > upto })
		list = list[max(0, end-rewind):end]
		if r := (run{stored: list[sort.Search(len(list), func(i int) bool { return list[i].Offset > after }):]}); r.next(upto) {
			h = append(h, r)
		}
	}
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.sink(i)
	}
	for len(records) < limit && len(h) > 0 {
		r := &h[0]
		if len(records) == 0 || records[len(records)-1].Offset != r.first.Offset { // else it is there already
			records = append(records, r.first)
		}
		if !r.next(upto) {
			last := len(h) - 1
			h[0], h = h[last], h[:last]
		}
		h.sink(0)
	}
	return records
}

// run is a part of a state, of one topic: first, and what comes behind it in either of the lists.
type run struct {
	first  *Record
	stored []*Record
	kept   []keptAt
}

// next moves the run to its next record, and returns false if there is none.
func (r *run) next(upto uint64) bool {
	if len(r.stored) > 0 {
		r.first, r.stored = r.stored[0], r.stored[1:]
		return true
	}
	for len(r.kept) > 0 && r.kept[0].offset <= upto {
		k := r.kept[0].kept
		r.kept = r.kept[1:]
		if k != nil {
			r.first = k.record
			return true
		}
	}
	return false
}

// runs is a heap, ordered by the offset of the first records, as byOffset is.
type runs []run

// sink restores the heap after the first record of the run at i has changed to a later one.
func (h runs) sink(i int) {
	for {
		next := 2*i + 1
		if next >= len(h) {
			return
		}
		if next+1 < len(h) && h[next+1].first.Offset < h[next].first.Offset {
			next++
		}
		if h[i].first.Offset <= h[next].first.Offset {
			return
		}
		h[i], h[next] = h[next], h[i]
		i = next
	}
}

// Retained is a retained event in one of its topics.
type Retained struct {
	Topic, Key string
	Record     *Record
}

// RetainedCursor is a place in the list of retained events, behind so many topics of the event with an offset.
type RetainedCursor struct {
	Offset uint64
	Topics int
}

// Retained returns the retained events behind a cursor in the order of their offsets and topics: at most limit of them,
// and about so many bytes, but at least one. They are those of a topic or, if that is empty, all. more reports whether
// there are others behind next.
func (l *Log) Retained(topic string, after RetainedCursor, limit, bytes int) (list []Retained, next RetainedCursor, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := &l.kept.all
	if topic != "" {
		from = l.kept.topics[topic]
	}
	next = after
	for _, a := range from.behind(max(after.Offset, 1) - 1) {
		k := a.kept
		if k == nil {
			continue
		}
		begin, end := 0, len(k.record.Topics)
		if topic != "" {
			begin, _ = slices.BinarySearch(k.record.Topics, topic)
			end = begin + 1
		}
		if a.offset == after.Offset {
			begin = max(begin, after.Topics)
		}
		for i := begin; i < end; i++ {
			t := k.record.Topics[i]
			if l.kept.places[place{t, k.key}] != k {
				continue
			}
			bytes -= k.record.Frame.Size() + len(t) + len(k.key)
			if len(list) == limit || len(list) > 0 && bytes < 0 {
				return list, next, true
			}
			list = append(list, Retained{t, k.key, k.record})
			next = RetainedCursor{a.offset, i + 1}
		}
	}
	return list, next, false
}
