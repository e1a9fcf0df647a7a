package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Log is a sequence of records. Once it is started it is safe for concurrent use.
type Log struct {
	dir        *Dir
	name       string
	id         [16]byte
	found      found
	unfinished []string
	o          Options

	mu       sync.Mutex
	segments []Segment // the oldest first
	pending  *Batch    // what the next write writes; nil: nobody waits
	spare    *Batch    // for reuse
	writing  bool      // somebody writes, and owns the fields below
	idle     sync.Cond // writing has become false
	stopped  bool      // only the mark of a clean stop is written
	since    time.Time // when a write or a sync failed, until a Probe works; zero: none did
	why      error
	filler   int // bytes that a probe has to write

	at       Place // where the next frame goes
	ragged   bool  // the file may have bytes behind at
	file     File  // changes under mu as well
	unsynced bool  // something was written since the last sync; guarded by mu alone
}

// Segment is a file of a log.
type Segment struct {
	Number uint64
	Bytes  int64
}

// Options are how a log is written.
type Options struct {
	SegmentBytes int64 // a new segment is begun when the newest has as much
	// Sync has each write synced before Append returns. Otherwise Log.Sync is to be called.
	Sync bool
	// Begin adds what each segment begins with: what is needed when those before it are gone. It is called by Start, and
	// between two writes.
	Begin func(b *Batch, segment uint64)
}

// Entry is what one Append writes: records that are read together or not at all.
type Entry interface {
	// Records adds the records. It is called in the order of the log, under its lock.
	Records(b *Batch)
	// Written is called once they are in the file, in the order of the log, and before the Append of any of
	// them returns. The records are at frame, plus the distances that Batch.Begin returned.
	Written(frame Place)
}

// Batch is what one write writes.
type Batch struct {
	bytes   []byte
	begun   int
	entries []Entry

	turn sync.Cond // lead has become true; the first who waits is to write
	over sync.Cond // done has become true; the others wait for that
	lead bool
	done bool
	err  error
}

// Begin begins a record. The caller appends its data to dst, and gives the result to End. place is the record's
// distance from the place that Written gets. Kinds are 1 to 255; 0 is the journal's own.
func (b *Batch) Begin(kind byte) (dst []byte, place int64) {
	b.begun = len(b.bytes)
	return append(b.bytes, 0, 0, 0, 0, kind), int64(b.begun)
}

// End ends the record that was begun.
func (b *Batch) End(dst []byte) {
	binary.LittleEndian.PutUint32(dst[b.begun:], uint32(len(dst)-b.begun-recordBytes)) //nolint:gosec // checked before the write
	b.bytes = dst
}

// Errors of Append after which nothing was added, and nothing will appear.
var (
	ErrClosed = errors.New("the journal is closed")
	ErrAway   = errors.New("the directory cannot be written")
)

const cleanMark = "clean"

// Start begins to write, in a new segment. What was torn is cut off before.
func (l *Log) Start(o Options) error {
	l.o = o
	for _, name := range l.unfinished {
		if err := remove(filepath.Join(l.dir.path, name)); err != nil {
			return err
		}
	}
	number := uint64(1)
	if n := len(l.segments); n > 0 {
		last := l.segments[n-1]
		number = last.Number + 1
		if l.found.empty { // it is replaced, so that starts in a row leave one file
			number, l.segments = last.Number, l.segments[:n-1]
		} else if err := l.finish(last); err != nil {
			return err
		}
	}
	return l.begin(number)
}

// finish cuts a segment of an earlier process where it ends, and makes it durable.
func (l *Log) finish(s Segment) error {
	opened, err := os.OpenFile(l.dir.file(l.name, s.Number), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	f := l.dir.wrap(osFile{opened})
	if l.found.dropped > 0 {
		err = f.Truncate(s.Bytes)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// begin makes a segment and writes on there. The file has its name only when all of its beginning is on the disk.
func (l *Log) begin(number uint64) error {
	b := &Batch{bytes: make([]byte, frameBytes, 512)}
	l.o.Begin(b, number)
	seal(b.bytes, number, headBytes)
	whole := head{number, l.id, l.dir.boot, l.o.Sync, l.name}.appendTo(nil)
	whole = append(whole, b.bytes...)
	path := l.dir.file(l.name, number)
	opened, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	f := l.dir.wrap(osFile{opened})
	_, err = f.WriteAt(whole, 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncDir(l.dir.path)
	}
	if err != nil {
		return errors.Join(err, f.Close()) // the next attempt writes the same file
	}
	if l.file != nil {
		_ = l.file.Close() // it is synced
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.file, l.at, l.ragged, l.unsynced = f, Place{number, int64(len(whole))}, false, false
	l.segments = append(l.segments, Segment{number, l.at.Offset})
	return nil
}

// Append writes an entry. It returns when the entry is in the file, and with Sync on the disk. Whoever comes while another writes is in the next
// write, together with all who wait then; a lone writer writes by itself. After an error that is ErrAway or ErrClosed the entry
// is not in the file. After any other it is unknown whether it will be there at the next start.
func (l *Log) Append(e Entry) error { return l.append(e, false) }

func (l *Log) append(e Entry, own bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.file == nil || l.stopped && !own:
		return ErrClosed
	case !l.since.IsZero() && !own:
		return fmt.Errorf("%w: %w", ErrAway, l.why)
	}
	b := l.pending
	if b == nil {
		b = l.batch()
		l.pending = b
	}
	e.Records(b)
	b.entries = append(b.entries, e)
	switch {
	case !l.writing:
		l.writing = true
		l.write(b, own)
	case len(b.entries) == 1:
		for !b.lead {
			b.turn.Wait()
		}
		l.write(b, own)
	default:
		for !b.done {
			b.over.Wait()
		}
	}
	return b.err
}

// batch returns an empty batch.
func (l *Log) batch() *Batch {
	b := l.spare
	l.spare = nil
	if b == nil {
		b = &Batch{bytes: make([]byte, 0, 1024)}
		b.turn.L, b.over.L = &l.mu, &l.mu
	}
	b.bytes = append(b.bytes[:0], make([]byte, frameBytes)...)
	b.entries, b.lead, b.done, b.err = b.entries[:0], false, false, nil
	return b
}

// keepBytes is how large a buffer may be that is kept for later writes.
const keepBytes = 1 << 20

// write writes the pending batch; under mu, which it gives up meanwhile. Then the next who waits has its turn.
func (l *Log) write(b *Batch, own bool) {
	l.pending = nil
	if !l.since.IsZero() && !own { // since they have begun to wait
		b.err = fmt.Errorf("%w: %w", ErrAway, l.why)
	} else {
		l.mu.Unlock()
		err := l.commit(b)
		l.mu.Lock()
		l.took(b, err)
	}
	b.done = true
	if len(b.entries) > 1 {
		b.over.Broadcast()
		b = &Batch{bytes: b.bytes, entries: b.entries} // those who waited still read done and err of the former
		b.turn.L, b.over.L = &l.mu, &l.mu
	}
	clear(b.entries)
	if cap(b.bytes) <= keepBytes && l.spare == nil {
		l.spare = b
	}
	l.next()
}

// next gives the turn to write to who waits for it; under mu.
func (l *Log) next() {
	if l.pending != nil {
		l.pending.lead = true
		l.pending.turn.Signal()
		return
	}
	l.writing = false
	l.idle.Broadcast()
}

// took notes how a write went; under mu.
func (l *Log) took(b *Batch, err error) {
	b.err = err
	if err != nil {
		if l.since.IsZero() {
			l.since, l.filler = time.Now(), min(len(b.bytes), keepBytes)
		}
		l.why = err
		return
	}
	l.unsynced = !l.o.Sync
	l.segments[len(l.segments)-1].Bytes = l.at.Offset
}

// commit writes a batch and tells its entries.
func (l *Log) commit(b *Batch) error {
	if err := l.put(b); err != nil {
		return err
	}
	at := l.at
	l.at.Offset += int64(len(b.bytes))
	for _, e := range b.entries {
		e.Written(at)
	}
	return nil
}

// put writes a batch at the end of the file, or cuts off again what has come to be there.
func (l *Log) put(b *Batch) error {
	if err := l.ready(len(b.bytes)); err != nil {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	seal(b.bytes, l.at.Segment, l.at.Offset)
	if _, err := l.file.WriteAt(b.bytes, l.at.Offset); err != nil {
		l.ragged = true
		_ = l.cut() // else before the next write; what is there is not a whole frame
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	if !l.o.Sync {
		return nil
	}
	err := l.file.Sync()
	if err == nil {
		return nil
	}
	// The frame is whole. It must be seen to be gone before anybody is told that it is not there.
	l.ragged = true
	if again := l.cut(); again != nil {
		return errors.Join(err, again)
	}
	if again := l.file.Sync(); again != nil {
		return errors.Join(err, again)
	}
	return fmt.Errorf("%w: %w", ErrAway, err)
}

// ready makes the file ready for a frame.
func (l *Log) ready(n int) error {
	if n > maxFrame {
		return fmt.Errorf("%d bytes are too many for one write", n)
	}
	if l.ragged {
		if err := l.cut(); err != nil {
			return err
		}
	}
	if l.at.Offset < l.o.SegmentBytes {
		return nil
	}
	if err := l.file.Sync(); err != nil { // a segment that is not the newest is whole on the disk
		return err
	}
	return l.begin(l.at.Segment + 1)
}

func (l *Log) cut() error {
	err := l.file.Truncate(l.at.Offset)
	l.ragged = err != nil
	return err
}

// Away returns for how long writing has failed, and why; 0: it works.
func (l *Log) Away() (time.Duration, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since.IsZero() {
		return 0, nil
	}
	return max(time.Since(l.since), 1), l.why
}

// own is a record of the journal.
type own string

func (o own) Records(b *Batch) {
	dst, _ := b.Begin(0)
	b.End(append(dst, o...))
}
func (own) Written(Place) {}

// Segments returns the files, the oldest first.
func (l *Log) Segments() []Segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.segments)
}
