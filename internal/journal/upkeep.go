package journal

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// turn waits until nobody writes. Nobody else writes then until next is called; under mu.
func (l *Log) turn() {
	for l.writing {
		l.idle.Wait()
	}
	l.writing = true
}

// Probe tries to write where that has failed. If it works it goes on.
func (l *Log) Probe() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn()
	defer l.next()
	if l.file == nil || l.since.IsZero() {
		return nil
	}
	b := l.batch()
	own(strings.Repeat("\x00", l.filler)).Records(b)
	l.mu.Unlock()
	err := l.put(b)
	if err == nil {
		// The filler has shown that there is room. It is a whole frame, so it does no harm if it stays.
		l.ragged = true
		if err = l.cut(); err == nil {
			err = l.file.Sync()
		}
	}
	l.mu.Lock()
	l.took(b, err)
	if err == nil {
		l.since, l.why = time.Time{}, nil
	}
	return err
}

// Sync makes durable what was written before. Where that fails the log is away until a Probe.
func (l *Log) Sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, due := l.file, l.unsynced
	if f == nil || !due {
		return nil
	}
	l.unsynced = false
	l.mu.Unlock()
	err := f.Sync()
	l.mu.Lock()
	if err == nil || errors.Is(err, os.ErrClosed) { // a file that another has followed was synced before
		return nil
	}
	l.unsynced = true
	if l.since.IsZero() {
		l.since, l.why, l.filler = time.Now(), err, frameBytes
	}
	return err
}

// Drop removes the segments before the given one, but never the newest.
func (l *Log) Drop(before uint64) error {
	for {
		l.mu.Lock()
		if len(l.segments) < 2 || l.segments[0].Number >= before {
			l.mu.Unlock()
			return nil
		}
		oldest := l.segments[0]
		l.mu.Unlock()
		// The oldest first, and each durably before the next: a hole between the numbers is damage.
		if err := remove(l.dir.file(l.name, oldest.Number)); err != nil {
			return err
		}
		l.mu.Lock()
		l.segments = l.segments[1:]
		l.mu.Unlock()
		if err := syncDir(l.dir.path); err != nil {
			return err
		}
	}
}

// Scan calls f with the records of a segment that is not the newest, in order. Their data stays as it is.
func (l *Log) Scan(segment uint64, f func(Record) error) error {
	b, err := os.ReadFile(l.dir.file(l.name, segment))
	if err != nil {
		return err
	}
	for position := int64(headBytes); ; {
		payload, fault := parseFrame(b, segment, position)
		if fault != sound {
			return l.dir.Bad(fileName(l.name, segment), "was damaged since the start")
		}
		if payload == nil {
			return nil
		}
		if _, err := records(payload, Place{segment, position + frameBytes}, func(r Record) error {
			if r.Kind == 0 {
				return nil
			}
			return f(r)
		}); err != nil {
			return err
		}
		position += frameBytes + int64(len(payload))
	}
}

// Stop ends Append. What is being written is written.
func (l *Log) Stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	l.turn()
	l.next()
}

// Close stops the log, and marks it as closed if all of it is on the disk. Its error means that this is not so.
func (l *Log) Close() error {
	l.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.why
	if err == nil {
		l.mu.Unlock()
		err = l.append(own(cleanMark), true)
		l.mu.Lock()
		if err == nil {
			err = l.file.Sync()
		}
	}
	err = errors.Join(err, l.file.Close())
	l.file = nil
	if err != nil {
		return fmt.Errorf("closing %s: %w", l.name, err)
	}
	return nil
}

// Reader reads single records. It is for one goroutine.
type Reader struct {
	log    *Log
	number uint64
	file   *os.File
}

// Reader makes one. It is to be closed.
func (l *Log) Reader() *Reader { return &Reader{log: l} }

// Read returns the record at a place. Its data is the caller's. What it reads was checked at the start, or written since.
func (r *Reader) Read(at Place) (kind byte, data []byte, err error) {
	if r.file == nil || r.number != at.Segment {
		r.Close()
		f, err := os.Open(r.log.dir.file(r.log.name, at.Segment))
		if err != nil {
			return 0, nil, err
		}
		r.file, r.number = f, at.Segment
	}
	return readAt(r.file, at.Offset)
}

// Close closes it.
func (r *Reader) Close() {
	if r.file != nil {
		_ = r.file.Close()
		r.file = nil
	}
}
