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
	// closePatience is how long Close waits for who reads the lines.
	closePatience = time.Second
)

// Writer takes lines for a destination that may block or fail, and itself never does: one
// goroutine writes what others have left in a buffer. Lines that find it full are lost,
// which is counted, and said when there is room again.
type Writer struct {
	out    io.Writer
	notice func(lost uint64) []byte // a line
	wake   chan struct{}            // has a value when there may be something to write
	ending chan struct{}            // closed when there will be nothing more
	done   chan struct{}            // closed when all is written
	once   sync.Once

	mu      sync.Mutex
	lines   []byte
	writing int    // bytes taken out of lines and not written yet
	lost    uint64 // lines, since that was said last
}

// Start makes a logger as New does, but one that never waits for out.
// It needs Close at the end of the program.
func Start(out io.Writer, level slog.Leveler, format string) (*slog.Logger, *Writer) { //nolint:misspell // slog's word
	w := &Writer{
		out: out, wake: make(chan struct{}, 1), ending: make(chan struct{}), done: make(chan struct{}),
		notice: func(lost uint64) []byte {
			var b bytes.Buffer
			New(&b, slog.LevelWarn, format).Warn("log lines were lost, nobody took them in time", "lines", lost)
			return b.Bytes()
		},
	}
	go w.run()
	return New(w, level, format), w
}

// lostLines counts for the whole process.
var lostLines atomic.Uint64

// Lost is how many lines have been lost so far.
func Lost() uint64 { return lostLines.Load() }

// Write takes one line. It never fails.
func (w *Writer) Write(line []byte) (int, error) {
	w.mu.Lock()
	idle := len(w.lines) == 0
	if len(w.lines)+w.writing+len(line) > bufferBytes {
		w.lost++
		lostLines.Add(1)
	} else {
		w.lines = append(w.lines, line...)
	}
	w.mu.Unlock()
	if idle {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
	return len(line), nil
}

// Close writes what is left, as far as that goes within a second. Lines that come after it are lost.
func (w *Writer) Close() {
	w.once.Do(func() { close(w.ending) })
	patience := time.NewTimer(closePatience)
	defer patience.Stop()
	select {
	case <-w.done:
	case <-patience.C:
	}
}

// run writes until Close, and then what is left.
func (w *Writer) run() {
	defer close(w.done)
	var batch []byte // swapped with lines
	for ended := false; ; {
		batch = w.take(batch)
		if len(batch) > 0 {
			if !w.write(batch) {
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

// take gives up room for lines, and returns those there are.
func (w *Writer) take(room []byte) []byte {
	if cap(room) > bufferBytes/8 {
		room = nil // a burst is over
	}
	w.mu.Lock()
	lines, lost := w.lines, w.lost
	w.lines, w.lost = room[:0], 0
	w.writing = len(lines)
	w.mu.Unlock()
	if lost > 0 {
		lines = append(lines, w.notice(lost)...)
	}
	return lines
}

// write writes lines, however long that takes. It answers false when it was given up at the end.
func (w *Writer) write(lines []byte) bool {
	for len(lines) > 0 {
		n, err := w.out.Write(lines[:piece(lines)])
		lines = lines[n:]
		w.mu.Lock()
		w.writing = min(w.writing, len(lines))
		w.mu.Unlock()
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

// piece is how much to write at once: whole lines, and one at least.
func piece(lines []byte) int {
	if len(lines) <= pieceBytes {
		return len(lines)
	}
	if end := bytes.LastIndexByte(lines[:pieceBytes], '\n'); end >= 0 {
		return end + 1
	}
	return bytes.IndexByte(lines, '\n') + 1
}
