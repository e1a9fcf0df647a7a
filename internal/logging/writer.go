package logging

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// bufferBytes bounds the lines that wait to be written: some 8,000.
	bufferBytes = 1 << 20
	// pieceBytes bounds one write of several lines. POSIX lets a pipe take that much
	// (PIPE_BUF on Linux) as a whole, so that lines stay whole where others write to it, too.
	pieceBytes = 4096
	// retryPause is between two attempts to write where the first failed, on a full disk perhaps.
	retryPause = time.Second
	// closePatience is how long Close waits for somebody to take the next piece.
	closePatience = time.Second
	// closeTime is how long Close waits in all for somebody who takes piece after piece.
	closeTime = 3 * time.Second
)

// Writer takes lines for a destination that may block or fail, and itself never does: one
// goroutine writes what others have left in a buffer. When the buffer is full, the oldest lines
// are lost: the last ones say why a process ended. What is lost is counted, and is said in the
// place of the lines when there is room again.
type Writer struct {
	out    io.Writer
	notice func(lost uint64) []byte // a line
	wake   chan struct{}            // has a value when there may be something to write
	ending chan struct{}            // closed when there will be nothing more
	done   chan struct{}            // closed when all is written
	taken  chan struct{}            // has a value when a piece was written since somebody looked
	once   sync.Once

	mu    sync.Mutex
	lines []byte // those that wait begin at head
	head  int
	lost  uint64 // lines, since that was said last
}

// Start makes a logger as New does, but one that never waits for out.
// It needs Close at the end of the program.
func Start(out io.Writer, level slog.Leveler, format string) (*slog.Logger, *Writer) { //nolint:misspell // slog's word
	timed := isUnsupervised(out)
	w := &Writer{
		out: out, wake: make(chan struct{}, 1), ending: make(chan struct{}),
		done: make(chan struct{}), taken: make(chan struct{}, 1),
		notice: func(lost uint64) []byte {
			var b bytes.Buffer
			newLogger(&b, slog.LevelWarn, format, timed).Warn("log lines were lost, nobody took them in time", "lines", lost)
			return b.Bytes()
		},
	}
	go w.run()
	return newLogger(w, level, format, timed), w
}

// lostLines counts for the whole process.
var lostLines atomic.Uint64

// Lost returns how many lines have been lost so far.
func Lost() uint64 { return lostLines.Load() }

// Write takes one line. It never fails.
func (w *Writer) Write(line []byte) (int, error) {
	w.mu.Lock()
	idle := w.head == len(w.lines)
	for w.head < len(w.lines) && len(w.lines)-w.head+len(line) > bufferBytes {
		w.head += bytes.IndexByte(w.lines[w.head:], '\n') + 1
		w.loseLocked()
	}
	if w.head > bufferBytes/4 {
		w.lines, w.head = w.lines[:copy(w.lines, w.lines[w.head:])], 0
	}
	if len(line) > bufferBytes {
		w.loseLocked()
	} else {
		w.lines = append(w.lines, line...)
	}
	w.mu.Unlock()
	if idle {
		signal(w.wake)
	}
	return len(line), nil
}

func (w *Writer) loseLocked() {
	w.lost++
	lostLines.Add(1)
}

// signal has a channel of one value have it.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Close writes what is left: as long as some of it is taken every second, and for 3 s at most.
// Lines that come after it are lost.
func (w *Writer) Close() {
	w.once.Do(func() { close(w.ending) })
	end := time.NewTimer(closeTime)
	defer end.Stop()
	patience := time.NewTimer(closePatience)
	defer patience.Stop()
	for {
		select {
		case <-w.done:
			return
		case <-end.C:
			return
		case <-patience.C:
			return
		case <-w.taken:
			patience.Reset(closePatience)
		}
	}
}

// run writes until Close, and then what is left.
func (w *Writer) run() {
	defer close(w.done)
	var piece []byte
	for ended := false; ; {
		piece = w.take(piece[:0])
		if len(piece) > 0 {
			if !w.write(piece) {
				return
			}
			continue
		}
		if ended {
			return
		}
		select {
		case <-w.wake:
		case <-w.ending:
			ended = true // once more, for what came before Close
		}
	}
}

// take appends to room what is to be written next: how many lines were lost, or the lines that
// have waited longest.
func (w *Writer) take(room []byte) []byte {
	w.mu.Lock()
	lost := w.lost
	w.lost = 0
	if lost == 0 {
		n := piece(w.lines[w.head:])
		room = append(room, w.lines[w.head:w.head+n]...)
		if w.head += n; w.head == len(w.lines) {
			if w.lines, w.head = w.lines[:0], 0; cap(w.lines) > bufferBytes/8 {
				w.lines = nil // a burst is over
			}
		}
	}
	w.mu.Unlock()
	if lost > 0 {
		return append(room, w.notice(lost)...)
	}
	return room
}

// write writes lines, however long that takes. It returns false when it was given up at the end.
func (w *Writer) write(lines []byte) bool {
	for len(lines) > 0 {
		n, err := w.out.Write(lines)
		lines = lines[n:]
		if n > 0 {
			signal(w.taken)
		}
		if err == nil {
			continue
		}
		select {
		case <-w.ending:
			return false
		case <-time.After(retryPause):
		}
	}
	return true
}

// piece returns how much to write at once: whole lines, and one at least.
func piece(lines []byte) int {
	if len(lines) <= pieceBytes {
		return len(lines)
	}
	if end := bytes.LastIndexByte(lines[:pieceBytes], '\n'); end >= 0 {
		return end + 1
	}
	return bytes.IndexByte(lines, '\n') + 1
}
