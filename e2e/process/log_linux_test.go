package process

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ssegateway/e2e/harness"
)

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

// TestLogNobodyReads: a full pipe as the log does not block anything, not even the exit.
func TestLogNobodyReads(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			_, w := pipe(t)
			g := start(t, w, "LOG_LEVEL=debug", "LOG_FORMAT="+format)
			g.chatter()
			if lost := g.metric("ssegateway_log_lines_lost_total"); lost == 0 {
				t.Error("nothing was lost")
			}
			g.expectExit(g.open())
		})
	}
}

// TestLogReadAgain: when the log is read again, all lines are complete, and a line has the
// number of missing ones.
func TestLogReadAgain(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			r, w := pipe(t)
			g := start(t, w, "LOG_LEVEL=debug", "LOG_FORMAT="+format)
			g.chatter()
			lost := g.metric("ssegateway_log_lines_lost_total")
			_ = w.Close()
			read := make(chan []byte)
			go func() {
				all, _ := io.ReadAll(r)
				read <- all
			}()
			g.expectExitWithin(3*time.Second, g.open()) // the log is read, perhaps slowly
			all := <-read
			notice := regexp.MustCompile(`log lines were lost.*lines[=":]+(\d+)`)
			plain := regexp.MustCompile(`^\[[A-Z]+\] [^\[]*$`)
			published, said := 0, 0
			for line := range bytes.Lines(all) {
				line = bytes.TrimSuffix(line, []byte("\n"))
				if format == "json" && !json.Valid(line) || format == "text" && !plain.Match(line) {
					t.Fatalf("torn line: %q", line)
				}
				if bytes.Contains(line, []byte("publish")) {
					published++
				}
				if m := notice.FindSubmatch(line); m != nil {
					n, _ := strconv.Atoi(string(m[1]))
					said += n
				}
			}
			// A few lines may have been lost after the count, before there was room again.
			if lost == 0 || said < int(lost) || said > int(lost)+10 || published+said < 7500 {
				t.Errorf("%v lines were lost, %d of them according to the log, and %d of 7500 lines are in the log", lost, said, published)
			}
			if !bytes.Contains(all, []byte("stopped")) {
				t.Error("the last line is missing")
			}
			harness.Figure(t, "a log of format %s that nobody reads for a while: the gateway answers on; of 7,500 lines %d are there, all whole, and %d are lost and counted, %d of them while it was not read",
				format, published, said, int(lost))
		})
	}
}

// TestLogWithoutReader: the gateway survives the death of its log's reader.
func TestLogWithoutReader(t *testing.T) {
	r, w := pipe(t)
	g := start(t, w)
	_ = r.Close()
	stream := g.open()
	_ = g.open()
	g.expectExit(stream)
}

// openTerminal opens a terminal, of which the test has the other end.
func openTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err) // no terminals here
	}
	t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = terminal.Close() })
	return master, terminal
}

// TestLogToStoppedTerminal: a terminal stopped by ^S does not block anything.
func TestLogToStoppedTerminal(t *testing.T) {
	t.Parallel()
	master, terminal := openTerminal(t)
	if _, err := master.WriteString("\x13"); err != nil { // ^S
		t.Fatal(err)
	}
	g := start(t, terminal, "LOG_LEVEL=debug")
	g.chatter()
	if lost := g.metric("ssegateway_log_lines_lost_total"); lost == 0 {
		t.Error("nothing was lost")
	}
	g.expectExit(g.open())
}

// TestLogToFullDisk: a full disk does not block anything, and writes are not retried in a busy loop.
func TestLogToFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	g := start(t, full)
	stream := g.open()
	before := g.metric("process_cpu_seconds_total")
	<-time.After(3 * time.Second) // the CPU time of an idle gateway is measured
	if used := g.metric("process_cpu_seconds_total") - before; used > 0.5 {
		t.Errorf("%.2f s of CPU in 3 s", used)
	}
	g.expectExit(stream)
}

// TestLastLine: the log has the reason of an exit, however soon the exit is.
func TestLastLine(t *testing.T) {
	t.Parallel()
	for range 5 {
		r, w := pipe(t)
		g := start(t, w)
		second := *g.cmd
		again := startCommand(t, second.Env, w)
		_ = w.Close()
		if code := again(); code != 1 {
			t.Errorf("exit code %d", code)
		}
		g.expectExit(g.open())
		all, err := io.ReadAll(r)
		if err != nil || !strings.Contains(string(all), "[ERROR] PORT: listen tcp") {
			t.Errorf("%s, %v", all, err)
		}
	}
}
