package broker

import (
	"context"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"ssegateway/internal/frame"
	"ssegateway/internal/guard"
	"ssegateway/sse"
)

// recordOverhead is the size of a stored record in bytes, without its frame and its topics'
// names: the record and its entries in the indexes. It is counted, so that the bound holds
// for tiny events too.
const recordOverhead = 160

// Log is a log within bounds of bytes and age: the newest records, by topic.
// It has one writer, the engine, and any number of readers.
type Log struct {
	epoch    string
	maxBytes int64
	maxAge   time.Duration

	mu      sync.Mutex
	changed sync.Cond // something was appended, or closed is set
	last    *node     // the newest, stored or not; nil in a log that was replaced
	stored  []entry   // the oldest first
	topics  map[string][]*Record
	kept    retention
	bytes   int64
	offset  uint64 // of the last stored record, or of a removal behind it
	reached uint64 // the log has all records up to this offset, as far as it is to have them; or less than offset
	trimmed uint64 // offset of the last record that is no longer kept
	records uint64 // so far, stored or not
	closed  bool
}

// node is a link of the chain that tailers follow. The garbage collector frees the links that
// all tailers have passed, so an event that is not stored lives only until it is delivered.
type node struct {
	record      *Record // nil in the first, and in the last of a log that was replaced
	next        atomic.Pointer[node]
	replacement *Replacement // in that last one
}

type entry struct {
	record *Record
	at     time.Time
}

// NewLog makes an empty log.
func NewLog(epoch string, maxBytes int64, maxAge time.Duration) *Log {
	l := &Log{epoch: epoch, maxBytes: maxBytes, maxAge: maxAge, last: new(node), topics: map[string][]*Record{}}
	l.changed.L = &l.mu
	return l
}

// LimitRetained bounds what all retained events take, in bytes; for engines only, before anything is appended.
// Without it nothing can be retained.
func (l *Log) LimitRetained(maxBytes int64) { l.kept.max = maxBytes }

// Append adds a record; for engines only. After ErrRetainedFull nothing was added.
func (l *Log) Append(p Publication) (Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.appendLocked(p, l.offset+1, time.Now(), true)
}

// AppendAt adds a record with a given time and offset, which is higher than all before; for
// engines only. The offset is used only if p is to be stored, or is a removal. An event is retained
// whatever the bound: that it is in the log was decided before (see Reserve).
func (l *Log) AppendAt(p Publication, offset uint64, at time.Time) (Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.appendLocked(p, offset, at, false)
}

// BeginAt makes the log begin after the offset; for engines only, before anything is
// appended.
func (l *Log) BeginAt(offset uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.offset, l.trimmed = max(l.offset, offset), max(l.trimmed, offset)
}

func (l *Log) appendLocked(p Publication, offset uint64, at time.Time, bounded bool) (Position, error) {
	if l.closed {
		return Position{}, ErrClosed
	}
	var r *Record
	if p.Remove {
		r = &Record{Offset: offset, Ref: p.Ref, Removed: l.kept.remove(p.Topics, p.Key)}
	} else {
		position := Position{l.epoch, l.endLocked()}
		if p.Store {
			position.Offset = offset
		}
		r = record(p, position)
	}
	if p.Retain {
		if bounded && !l.kept.hasRoom(l.kept.need(r, p.Key)) {
			return Position{}, ErrRetainedFull
		}
		l.kept.retain(r, p.Key)
	}
	r.Seq = l.records + 1
	l.records = r.Seq
	if p.Store || p.Remove {
		l.offset = r.Offset
	}
	if r.Stored {
		l.storeLocked(r, at)
	}
	link := &node{record: r}
	l.last.next.Store(link)
	l.last = link
	l.changed.Broadcast()
	return Position{l.epoch, l.offset}, nil
}

// record makes the record of an event. A stored one has the position as its id.
func record(p Publication, at Position) *Record {
	e := p.Event
	e.ID = sse.ID{}
	if p.Store {
		e.ID, _ = sse.NewID(at.String()) // an epoch has no character that an id must not have
	}
	r := &Record{Offset: at.Offset, Topics: p.Topics, Stored: p.Store, Ref: p.Ref}
	r.Frame.Frame = frame.Event(e)
	return r
}

func (r *Record) cost() int64 {
	n := int64(r.Frame.Size()) + recordOverhead
	for _, t := range r.Topics {
		n += int64(len(t)) + recordOverhead/4
	}
	return n
}

func (l *Log) storeLocked(r *Record, at time.Time) {
	l.stored = append(l.stored, entry{r, at})
	l.bytes += r.cost()
	for _, t := range r.Topics {
		l.topics[t] = append(l.topics[t], r)
	}
	l.trimLocked(time.Now())
}

// Trim drops the records that are too old. Append does so too; Trim is for a log without new events.
func (l *Log) Trim() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trimLocked(time.Now())
}

// trimLocked drops the oldest records until the log is within its bounds. The
// newest is kept whatever its size.
func (l *Log) trimLocked(now time.Time) {
	n := 0
	for ; n < len(l.stored); n++ {
		old := l.stored[n]
		if now.Sub(old.at) < l.maxAge && (l.bytes <= l.maxBytes || n == len(l.stored)-1) {
			break
		}
		l.bytes -= old.record.cost()
		l.trimmed = max(l.trimmed, old.record.Offset)
		for _, t := range old.record.Topics {
			if rest := l.topics[t][1:]; len(rest) > 0 {
				l.topics[t][0] = nil
				l.topics[t] = rest
			} else {
				delete(l.topics, t)
			}
		}
	}
	clear(l.stored[:n])
	l.stored = l.stored[n:]
	if len(l.stored) == 0 {
		l.stored = nil
	}
}

// Close ends all tailers and makes Append fail.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.changed.Broadcast()
}

// Replacement is the log that replaces another one. A tailer that has read the old log to its
// end continues here, with everything that was appended since the replacement, however late it
// comes. So all tailers get the same records.
type Replacement struct {
	Log      *Log
	Tailer   *Tailer
	Position uint64 // offset of the last stored record that the tailer will not see
}

// ReplaceWith closes the log and makes next its replacement; for engines only. Nothing may be
// appended to next before it returns. The records of next are counted on from those of this log.
//
// Only the tailers of this log refer to the records of next. The log itself does not: a reader
// of its stored records may keep it for long.
func (l *Log) ReplaceWith(next *Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	tailer, position := next.Tail()
	next.mu.Lock()
	next.records += l.records
	next.mu.Unlock()
	l.last.next.Store(&node{replacement: &Replacement{next, tailer, position}})
	l.last, l.closed = nil, true
	l.changed.Broadcast()
}

// Stats are the log's extent.
type Stats struct {
	Epoch         string
	Oldest, Last  uint64 // offsets; Oldest is that of the next record if there is none
	Trimmed       uint64 // offset of the last stored record that is not kept any more; not always Oldest-1, since offsets may have holes
	Records       uint64 // so far, stored or not
	Bytes, Events int64  // that are kept

	RetainedBytes int64
	Retained      int // events, each counted for each of its topics
}

// Stats returns the log's extent now.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Stats{
		Epoch: l.epoch, Oldest: l.oldestLocked(), Last: l.endLocked(), Trimmed: l.trimmed, Records: l.records, Bytes: l.bytes, Events: int64(len(l.stored)),
		RetainedBytes: l.kept.bytes, Retained: len(l.kept.places),
	}
}

// LastStored returns the offset of the newest stored record up to that offset.
func (l *Log) LastStored(upto uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := sort.Search(len(l.stored), func(i int) bool { return l.stored[i].record.Offset > upto }); i > 0 {
		return l.stored[i-1].record.Offset
	}
	return min(l.trimmed, upto)
}

func (l *Log) oldestLocked() uint64 {
	if len(l.stored) > 0 {
		return l.stored[0].record.Offset
	}
	return l.endLocked() + 1
}

// Reach records that the log has everything up to an offset, though the last record has a lower one; for engines only.
func (l *Log) Reach(offset uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reached = max(l.reached, offset)
}

// Ping appends a record of nothing, by which those who follow the log learn that they have come so far.
func (l *Log) Ping(ref uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		_, _ = l.appendLocked(Publication{Remove: true, Ref: ref}, l.endLocked(), time.Now(), false) // it fails only when the log is closed
	}
}

// Reaches reports whether the log has come to an offset, and has no record behind after.
func (l *Log) Reaches(offset, after uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.endLocked() >= offset && l.offset <= after
}

func (l *Log) endLocked() uint64 { return max(l.offset, l.reached) }

// Position returns the end of the log now.
func (l *Log) Position() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Position{l.epoch, l.endLocked()}
}

// Epoch returns the log's epoch.
func (l *Log) Epoch() string { return l.epoch }

// Missed returns the stored records of any of the topics with offsets above after and up to
// upto, each once and in order, at most limit of them. reaches reports whether the log still
// has every stored record after that offset.
func (l *Log) Missed(after, upto uint64, topics []string, limit int) (missed []*Record, reaches bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lists := make(byOffset, 0, min(len(topics), limit))
	for _, t := range topics {
		list := l.topics[t]
		if i := sort.Search(len(list), func(i int) bool { return list[i].Offset > after }); i < len(list) && list[i].Offset <= upto {
			lists = append(lists, list[i:])
		}
	}
	for i := len(lists)/2 - 1; i >= 0; i-- {
		lists.sink(i)
	}
	for len(missed) < limit && len(lists) > 0 {
		first := lists[0]
		if len(missed) == 0 || missed[len(missed)-1] != first[0] { // else it has several of the topics
			missed = append(missed, first[0])
		}
		if len(first) > 1 && first[1].Offset <= upto {
			lists[0] = first[1:]
		} else {
			last := len(lists) - 1
			lists[0], lists = lists[last], lists[:last]
		}
		lists.sink(0)
	}
	return missed, after >= l.trimmed
}

// byOffset is a heap of non-empty lists, ordered by the offset of their first records. A heap,
// because a client may have thousands of topics, and the log is locked while they are merged.
type byOffset [][]*Record

// sink restores the heap after the first record of the list at i has changed to a later one.
func (h byOffset) sink(i int) {
	for {
		next := 2*i + 1
		if next >= len(h) {
			return
		}
		if next+1 < len(h) && h[next+1][0].Offset < h[next][0].Offset {
			next++
		}
		if h[i][0].Offset <= h[next][0].Offset {
			return
		}
		h[i], h[next] = h[next], h[i]
		i = next
	}
}

// Tailer follows the log. It must not be used by more than one goroutine at a time.
type Tailer struct {
	log *Log
	at  *node
}

// Tail follows the log from now on. It also returns the offset of the last stored
// record that the tailer will not see. The tailer is nil if the log was replaced.
func (l *Log) Tail() (*Tailer, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == nil {
		return nil, 0
	}
	return &Tailer{l, l.last}, l.offset
}

// Replacement returns the log's replacement once the tailer has seen all of the log. It returns
// nil if there is none, or if there is more to see. The tailer in it belongs to the caller.
func (t *Tailer) Replacement() *Replacement {
	if t.at.replacement == nil {
		return nil
	}
	next, tailer := *t.at.replacement, *t.at.replacement.Tailer
	next.Tailer = &tailer
	return &next
}

// Next waits for the next record. It returns nil when the log is closed or ctx has ended.
func (t *Tailer) Next(ctx context.Context) *Record {
	next := t.at.next.Load()
	if next == nil {
		if next = t.wait(ctx); next == nil {
			return nil
		}
	}
	t.at = next
	return next.record
}

func (t *Tailer) wait(ctx context.Context) *node {
	defer context.AfterFunc(ctx, func() {
		defer guard.Recover()
		t.log.mu.Lock()
		defer t.log.mu.Unlock()
		t.log.changed.Broadcast()
	})()
	t.log.mu.Lock()
	defer t.log.mu.Unlock()
	for {
		if next := t.at.next.Load(); next != nil {
			return next
		}
		if t.log.closed || ctx.Err() != nil {
			return nil
		}
		t.log.changed.Wait()
	}
}

// SortTopics sorts topics and drops repetitions, for a Publication.
func SortTopics(topics []string) []string {
	slices.Sort(topics)
	return slices.Compact(topics)
}
