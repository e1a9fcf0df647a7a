package broker

import (
	"cmp"
	"slices"
	"time"
)

// Past is a stored event that was published before this node read its topics.
type Past struct {
	Publication

	Offset uint64
	At     time.Time // of this node's clock
}

// Insert adds events of the past to what the log keeps; for engines only. Nobody who follows the log gets them. What the log
// has already is left out, and Insert reports how many events that left. begin is the offset behind which the past is whole: the log does not
// reach back before it.
func (l *Log) Insert(past []Past, begin uint64) (added int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trimmed = max(l.trimmed, min(begin, l.endLocked()))
	var fresh []entry
	for _, p := range past {
		if p.Offset <= l.trimmed || l.hasLocked(p.Topics, p.Offset) {
			continue
		}
		r := record(p.Publication, Position{l.epoch, p.Offset})
		fresh = append(fresh, entry{r, p.At})
		l.bytes += r.cost()
		for _, t := range r.Topics {
			i, _ := searchOffset(l.topics[t], r.Offset)
			l.topics[t] = slices.Insert(l.topics[t], i, r)
		}
	}
	l.stored = merge(l.stored, fresh)
	l.trimLocked(time.Now())
	return len(fresh)
}

func (l *Log) hasLocked(topics []string, offset uint64) bool {
	for _, t := range topics {
		if _, has := searchOffset(l.topics[t], offset); has {
			return true
		}
	}
	return false
}

func searchOffset(list []*Record, offset uint64) (int, bool) {
	return slices.BinarySearchFunc(list, offset, func(r *Record, offset uint64) int { return cmp.Compare(r.Offset, offset) })
}

// merge adds entries to others. Both, and the result, are in the order of offsets.
func merge(stored, more []entry) []entry {
	if len(more) == 0 {
		return stored
	}
	i, _ := slices.BinarySearchFunc(stored, more[0].record.Offset, func(e entry, offset uint64) int { return cmp.Compare(e.record.Offset, offset) })
	behind := slices.Clone(stored[i:])
	stored = slices.Grow(stored[:i], len(behind)+len(more))
	for len(behind) > 0 && len(more) > 0 {
		if behind[0].record.Offset < more[0].record.Offset {
			stored, behind = append(stored, behind[0]), behind[1:]
		} else {
			stored, more = append(stored, more[0]), more[1:]
		}
	}
	return append(append(stored, behind...), more...)
}
