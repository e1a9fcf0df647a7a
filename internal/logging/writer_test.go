package logging

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/bubble"
	"ssegateway/internal/logging/loggingtest"
)

// TestStopLosesNothing: what was logged before the end is written, in order and in both forms.
func TestStopLosesNothing(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var b bytes.Buffer
		l, w := Start(&b, slog.LevelInfo, format)
		for i := range 1000 {
			l.Info("line", "i", i)
		}
		l.Error("the last")
		w.Close()
		lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		if len(lines) != 1001 || !strings.Contains(lines[1000], "the last") || !strings.Contains(lines[500], "500") {
			t.Errorf("%s: %d lines, the last %s", format, len(lines), lines[len(lines)-1])
		}
	}
}

// stuck is a destination that takes nothing until it is let go.
type stuck struct {
	loggingtest.Buffer

	free chan struct{}
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.free
	return s.Buffer.Write(p)
}

// TestBlockedDestination: logging goes on, lines are lost beyond the bound, and that is said
// when there is room again.
func TestBlockedDestination(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		bubble.Test(t, func(t *testing.T) {
			out := &stuck{free: make(chan struct{})}
			l, w := Start(out, slog.LevelInfo, format)
			before := Lost()
			const n = 20000
			var group sync.WaitGroup
			for g := range 4 {
				group.Go(func() {
					for i := range n / 4 {
						l.Info(strings.Repeat("x", 100), "i", strconv.Itoa(g)+"/"+strconv.Itoa(i))
					}
				})
			}
			group.Wait() // a Write that blocks is a deadlock here
			if n := len(w.lines) - w.head; n > bufferBytes {
				t.Errorf("%d bytes wait", n)
			}
			lost := Lost() - before
			close(out.free)
			synctest.Wait()
			l.Info("after")
			w.Close()
			whole := regexp.MustCompile(`^(\[INFO\] x{100} i=\d/\d+|\{"time":"[^"]+","level":"INFO","msg":"x{100}","i":"\d/\d+"\})$`)
			written := 0
			said := uint64(0) // in one line, or in two if the first was lost before anything was taken
			for line := range strings.Lines(out.String()) {
				line = strings.TrimSuffix(line, "\n")
				switch {
				case whole.MatchString(line):
					written++
				case strings.Contains(line, "log lines were lost"):
					n, err := strconv.ParseUint(regexp.MustCompile(`(\d+)}?$`).FindStringSubmatch(line)[1], 10, 64)
					if err != nil {
						t.Fatal(err)
					}
					said += n
				case !strings.Contains(line, "after"):
					t.Fatalf("torn: %q", line)
				}
			}
			if written+int(lost) != n || lost == 0 || said != lost {
				t.Errorf("%s: %d written, %d lost, of %d; said: %d", format, written, lost, n, said)
			}
			if !strings.HasSuffix(strings.TrimRight(out.String(), "\"}\n"), "after") {
				t.Error("the last line is missing")
			}
		})
	}
}

// TestLastLineOfFullBuffer: when more is logged than fits, it is the last line that is kept.
func TestLastLineOfFullBuffer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		out := &stuck{free: make(chan struct{})}
		l, w := Start(out, slog.LevelInfo, "text")
		for range 2 * bufferBytes / 100 {
			l.Info(strings.Repeat("x", 100))
		}
		l.Error("why it ends")
		close(out.free)
		w.Close()
		if !strings.HasSuffix(out.String(), "\n[ERROR] why it ends\n") {
			t.Error("the last line is missing")
		}
	})
}

// slow is a destination that takes a piece in each interval.
type slow struct {
	loggingtest.Buffer

	interval time.Duration
}

func (s *slow) Write(p []byte) (int, error) {
	time.Sleep(s.interval) // fake clock
	return s.Buffer.Write(p)
}

// TestEndWithSlowReader: the end waits for who reads the log slowly, within bounds.
func TestEndWithSlowReader(t *testing.T) {
	for _, test := range []struct {
		interval, want time.Duration
		last           bool
	}{
		{200 * time.Millisecond, 11 * 200 * time.Millisecond, true},
		{500 * time.Millisecond, 3 * time.Second, false},
	} {
		bubble.Test(t, func(t *testing.T) {
			out := &slow{interval: test.interval}
			l, w := Start(out, slog.LevelInfo, "text")
			for range 10 {
				l.Info(strings.Repeat("x", pieceBytes))
			}
			l.Info("the last")
			begin := time.Now()
			w.Close()
			if took := time.Since(begin); took != test.want {
				t.Errorf("it took %v, want %v", took, test.want)
			}
			if strings.Contains(out.String(), "the last") != test.last {
				t.Errorf("the last line was written: %v", !test.last)
			}
			<-w.done
		})
	}
}

// TestEndWithoutReader: the end waits for a second, and no longer, for a log that nobody reads.
func TestEndWithoutReader(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		out := &stuck{free: make(chan struct{})}
		l, w := Start(out, slog.LevelInfo, "text")
		l.Info("nobody reads this")
		begin := time.Now()
		w.Close()
		if took := time.Since(begin); took != closePatience {
			t.Errorf("it took %v", took)
		}
		close(out.free)
	})
}

// full is a destination without room: it takes what fits, and fails.
type full struct {
	loggingtest.Buffer

	mu           sync.Mutex
	room, writes int
}

func (f *full) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes++
	n := min(len(p), f.room)
	f.room -= n
	_, _ = f.Buffer.Write(p[:n])
	if n < len(p) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

// TestFullDisk: it is tried again at intervals, nothing spins, and lines stay whole.
func TestFullDisk(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		out := &full{room: 10}
		l, w := Start(out, slog.LevelInfo, "text")
		for range 3 {
			l.Info("eleven and more")
			synctest.Wait()
		}
		time.Sleep(10*retryPause + 1) // fake clock
		synctest.Wait()
		out.mu.Lock()
		if out.writes != 11 {
			t.Errorf("%d writes in ten seconds", out.writes)
		}
		out.room = 1000
		out.mu.Unlock()
		time.Sleep(retryPause) // fake clock
		synctest.Wait()
		if got, want := out.String(), strings.Repeat("[INFO] eleven and more\n", 3); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		out.mu.Lock()
		out.room = 0
		out.mu.Unlock()
		l.Info("no room at the end")
		begin := time.Now()
		w.Close()
		if took := time.Since(begin); took > closePatience {
			t.Errorf("the end took %v", took)
		}
	})
}

func TestPiece(t *testing.T) {
	long := strings.Repeat("y", 2*pieceBytes) + "\n"
	line := strings.Repeat("x", 99) + "\n"
	for _, test := range []struct {
		lines string
		want  int
	}{
		{line, 100},
		{strings.Repeat(line, 50), 4000},
		{long + line, len(long)},
		{line + long, 100},
	} {
		if got := piece([]byte(test.lines)); got != test.want {
			t.Errorf("%d, want %d", got, test.want)
		}
	}
}

// BenchmarkStarted is BenchmarkText by way of the buffer.
func BenchmarkStarted(b *testing.B) {
	l, w := Start(io.Discard, slog.LevelInfo, "text")
	defer w.Close()
	b.ReportAllocs()
	for b.Loop() {
		logClose(l)
	}
}
