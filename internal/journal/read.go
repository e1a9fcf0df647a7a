package journal

import (
	"crypto/rand"
	"fmt"
	"os"
)

// Open reads a log and calls f with its records in order. It writes nothing: Start does, once everything that is
// to be read from the directory has turned out to be sound. f's error ends it.
func (d *Dir) Open(name string, f func(Record) error) (*Log, error) {
	l := &Log{dir: d, name: name}
	l.idle.L = &l.mu
	numbers, unfinished, err := d.segments(name)
	if err != nil {
		return nil, err
	}
	l.unfinished = unfinished
	for i, n := range numbers {
		size, err := l.read(n, i == len(numbers)-1, f)
		if err != nil {
			return nil, err
		}
		l.segments = append(l.segments, Segment{n, size})
	}
	if len(numbers) == 0 {
		_, _ = rand.Read(l.id[:]) // never fails
		l.found.fresh = true
	}
	return l, nil
}

// Again calls f with the records once more, as Open has. It is for use before Start.
func (l *Log) Again(f func(Record) error) error {
	for i, s := range l.segments {
		if _, err := l.read(s.Number, i == len(l.segments)-1, f); err != nil {
			return err
		}
	}
	return nil
}

// found is what the newest segment tells about how its process ended.
type found struct {
	fresh   bool  // there is no segment
	clean   bool  // the last record is the mark of a clean stop
	boot    bool  // the machine may have stopped since
	sync    bool  // each write was synced
	empty   bool  // the newest segment has nothing but its beginning
	dropped int64 // bytes at the end of the newest segment
}

// Lost reports whether the machine may have stopped with writes that were answered and not synced. They
// may be gone, all behind some point.
func (l *Log) Lost() bool { return !l.found.fresh && l.found.boot && !l.found.clean && !l.found.sync }

// Dropped returns how many bytes at the end of the newest file were not read, since the write of them was cut off.
func (l *Log) Dropped() int64 { return l.found.dropped }

// read reads a segment and returns where it ends.
func (l *Log) read(number uint64, newest bool, f func(Record) error) (size int64, err error) {
	file := fileName(l.name, number)
	b, err := os.ReadFile(l.dir.file(l.name, number))
	if err != nil {
		return 0, err
	}
	h, wrong := parseHead(b, l.name, number)
	if wrong == "" && len(l.segments) > 0 && h.log != l.id {
		wrong = misplaced
	}
	if wrong != "" {
		return 0, l.dir.Bad(file, wrong)
	}
	l.id = h.log
	here := found{boot: h.boot == "" || h.boot != l.dir.boot, sync: h.sync, empty: true}
	position, frames := int64(headBytes), 0
	for {
		payload, fault := parseFrame(b, number, position)
		if fault == sound && payload == nil {
			break
		}
		if fault != sound {
			after := here.boot && here.sync && soundAfter(b, number, position)
			if !newest || frames == 0 || after || fault == damaged && !here.boot {
				return 0, l.dir.Bad(file, fmt.Sprintf("is damaged at byte %d", position))
			}
			here.dropped = int64(len(b)) - position
			break
		}
		here.clean = false
		whole, err := records(payload, Place{number, position + frameBytes}, func(r Record) error {
			here.clean = r.Kind == 0 && string(r.Data) == cleanMark
			if r.Kind == 0 {
				return nil
			}
			here.empty = here.empty && frames == 0
			return f(r)
		})
		if !whole {
			return 0, l.dir.Bad(file, fmt.Sprintf("is damaged at byte %d", position))
		}
		if err != nil {
			return 0, l.dir.Bad(file, fmt.Sprintf("cannot be understood at byte %d: %v", position, err))
		}
		position += frameBytes + int64(len(payload))
		frames++
	}
	if frames == 0 {
		return 0, l.dir.Bad(file, "is shorter than its beginning")
	}
	if newest {
		l.found = here
	}
	return position, nil
}
