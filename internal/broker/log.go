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

// recordOverhead is what a stored record costs beside its frame and its topics'
// names, in bytes: itself and its entries in the indexes. It is counted, so that
// the bound holds for tiny events too.
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
	bytes   int64
	offset  uint64 // of the last stored record
	trimmed uint64 // offset of the last record that is no longer kept
	records uint64 // so far, stored or not
	closed  bool
}

// node is a link of the chain that tailers follow. Records that nobody follows any
// more are the garbage collector's, so that what is not stored lives only as long
// as it is on its way.
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

// Append adds a record; for engines only.
func (l *Log) Append(p Publication) (Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.appendLocked(p, l.offset+1, time.Now())
}

// AppendAt adds a record that got its offset, higher than all before, and its time
// elsewhere; for engines only. The offset is that of p if p is to be stored.
func (l *Log) AppendAt(p Publication, offset uint64, at time.Time) (Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.appendLocked(p, offset, at)
}

// BeginAt says that nothing up to and with the offset is in this log; for engines
// only, before anything is appended behind it.
func (l *Log) BeginAt(offset uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.offset, l.trimmed = max(l.offset, offset), max(l.trimmed, offset)
}

func (l *Log) appendLocked(p Publication, offset uint64, at time.Time) (Position, error) {
	if l.closed {
		return Position{}, ErrClosed
	}
	l.records++
	r := &Record{Offset: l.offset, Topics: p.Topics, Stored: p.Store, Ref: p.Ref, Seq: l.records}
	e := p.Event
	e.ID = sse.ID{}
	if p.Store {
		r.Offset = offset
		l.offset = offset
		e.ID, _ = sse.NewID(Position{l.epoch, r.Offset}.String()) // an epoch has nothing that an id must not have
	}
	r.Frame.Frame = frame.Event(e)
	if p.Store {
		l.storeLocked(r, at)
	}
	link := &node{record: r}
	l.last.next.Store(link)
	l.last = link
	l.changed.Broadcast()
	return Position{l.epoch, r.Offset}, nil
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

// Trim drops what is too old. Appending trims as well; this is for a log at rest.
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
		l.trimmed = old.record.Offset
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

// Close ends all tailing, and appending.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.changed.Broadcast()
}

// Replacement is the log that goes on in the place of another. Whoever follows that one to
// its end goes on here, with what is appended from then on, however late it
// comes: so all followers get the same.
type Replacement struct {
	Log      *Log
	Tailer   *Tailer
	Position uint64 // offset of the last stored record that the tailer will not see
}

// ReplaceWith closes the log because next goes on in its place; for engines only. Nothing is
// appended to next before it returns. Places go on from this log's.
//
// Only who follows this log holds on to what is appended to next: the log itself may be kept
// for long, by who has yet to read what it has stored.
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
	Records       uint64 // so far, stored or not: the last one's Place
	Bytes, Events int64  // that are kept
}

// Stats tells the log's extent now.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Stats{Epoch: l.epoch, Oldest: l.oldestLocked(), Last: l.offset, Trimmed: l.trimmed, Records: l.records, Bytes: l.bytes, Events: int64(len(l.stored))}
}

func (l *Log) oldestLocked() uint64 {
	if len(l.stored) > 0 {
		return l.stored[0].record.Offset
	}
	return l.offset + 1
}

// Epoch of the log.
func (l *Log) Epoch() string { return l.epoch }

// Missed returns stored records of any of the topics, each once and in order, from
// behind the offset after up to and with the offset upto, at most limit of them.
// reaches says whether the log still has everything behind after.
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

// byOffset is a heap of lists that are not empty, by the offset of their first records: a
// client may have thousands of topics, and everybody waits while they are merged.
type byOffset [][]*Record

// sink restores the heap where the list at i may have to come later.
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

// Tailer follows the log. It is one goroutine's.
type Tailer struct {
	log *Log
	at  *node
}

// Tail follows the log from now on. It also tells the offset of the last stored
// record that the tailer will not see. The tailer is nil if the log was replaced.
func (l *Log) Tail() (*Tailer, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == nil {
		return nil, 0
	}
	return &Tailer{l, l.last}, l.offset
}

// Replacement is what goes on in the place of the log, all of which the tailer has seen; nil:
// nothing does, or there is more to see. The tailer in it is the caller's.
func (t *Tailer) Replacement() *Replacement {
	if t.at.replacement == nil {
		return nil
	}
	next, tailer := *t.at.replacement, *t.at.replacement.Tailer
	next.Tailer = &tailer
	return &next
}

// Next waits for the next record. It returns nil when the log is closed or ctx ended.
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
