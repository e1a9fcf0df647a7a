package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ssegateway/e2e/harness"
)

// timedAt is the environment variable with the address of a gateway. If it is set, this binary reads streams from there,
// and takes the time of each event, with one epoll set for all: what it costs must not delay what it measures.
const timedAt = "LOAD_TIMED_AT"

// monotonic is a clock that processes share, in nanoseconds.
func monotonic() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // the clock exists
	return now.Nano()
}

// timedDigits is how many digits an event's data begins with: the time at which it was written.
const timedDigits = 19

// timedData returns the data of an event that is written now, of 256 bytes.
func timedData() string {
	return fmt.Sprintf("%0*d%s", timedDigits, monotonic(), strings.Repeat("x", 256-timedDigits))
}

var timedMark = []byte("data: ")

// readTimed opens streams, says so, and answers each line of the input, which is a number, when so many events have come since
// the one before: with their number, and their latencies at p50 and p99.
func readTimed(addr string, args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	set, err := unix.EpollCreate1(0)
	if err != nil {
		return err
	}
	tails := map[int32][]byte{}
	var files []*os.File
	defer func() {
		for _, file := range files {
			_ = file.Close()
		}
	}()
	for i := range n {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		text := bytes.TrimSuffix(requestOf(args[1], addr, i), []byte("\r\n"))
		if args[2] != "" {
			text = append(text, "Last-Event-ID: "+args[2]+"\r\n"...)
		}
		if _, err := conn.Write(append(text, "\r\n"...)); err != nil {
			return err
		}
		if line, err := bufio.NewReaderSize(conn, 16).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
			return fmt.Errorf("%q %w", line, err)
		}
		file, err := conn.(*net.TCPConn).File()
		if err != nil {
			return err
		}
		fd := int32(file.Fd())
		_ = conn.Close()
		files = append(files, file)
		tails[fd] = nil
		if err := unix.SetNonblock(int(fd), true); err != nil {
			return err
		}
		if err := unix.EpollCtl(set, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{Events: unix.EPOLLIN, Fd: fd}); err != nil {
			return err
		}
	}
	if err := unix.EpollCtl(set, unix.EPOLL_CTL_ADD, 0, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(os.Stdout, "open")
	var times harness.Latencies
	want := 0
	events := make([]unix.EpollEvent, 256)
	buf := make([]byte, 64<<10)
	for {
		ready, err := unix.EpollWait(set, events, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil {
			return err
		}
		for _, e := range events[:ready] {
			read, err := unix.Read(int(e.Fd), buf)
			if read <= 0 {
				if e.Fd == 0 || err == nil {
					return err // the test is over, or the stream
				}
				continue
			}
			now := monotonic()
			if e.Fd == 0 {
				if want, err = strconv.Atoi(strings.TrimSpace(string(buf[:read]))); err != nil {
					return err
				}
				continue
			}
			rest := append(tails[e.Fd], buf[:read]...)
			for {
				_, behind, found := bytes.Cut(rest, timedMark)
				if !found || len(behind) < timedDigits {
					break
				}
				at, err := strconv.ParseInt(string(behind[:timedDigits]), 10, 64)
				if err != nil {
					return err
				}
				times = append(times, time.Duration(now-at))
				rest = behind[timedDigits:]
			}
			if want > 0 && len(times) >= want {
				_, _ = fmt.Fprintln(os.Stdout, len(times), times.Quantile(.5), times.Quantile(.99))
				times, want = times[:0], 0
			}
			tails[e.Fd] = append(tails[e.Fd][:0], rest[max(0, len(rest)-len(timedMark)-timedDigits):]...)
		}
	}
}

// timed are such readers.
type timed struct {
	t     *testing.T
	write io.WriteCloser
	read  *bufio.Reader
}

// openTimed opens streams of a path, with an id to come back with if that is not empty.
func (s *site) openTimed(n int, path, lastEventID string) *timed {
	s.t.Helper()
	c := exec.Command(os.Args[0], strconv.Itoa(n), path, lastEventID)
	c.Env = append(os.Environ(), timedAt+"="+s.addr)
	c.Stderr = os.Stderr
	write, err := c.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	read, err := c.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	r := &timed{s.t, write, bufio.NewReader(read)}
	s.t.Cleanup(func() {
		_ = write.Close()
		_ = c.Wait()
	})
	if line, err := r.read.ReadString('\n'); err != nil || line != "open\n" {
		s.t.Fatalf("%q %v", line, err)
	}
	return r
}

// wants tells the readers that so many events are about to come.
func (r *timed) wants(events int) {
	r.t.Helper()
	if _, err := fmt.Fprintln(r.write, events); err != nil {
		r.t.Fatal(err)
	}
}

// take waits until they have come, and returns how many there were, and their latencies.
func (r *timed) take() (events int, p50, p99 time.Duration) {
	r.t.Helper()
	line, err := r.read.ReadString('\n')
	fields := strings.Fields(line)
	if err != nil || len(fields) != 3 {
		r.t.Fatalf("%q %v", line, err)
	}
	events, err = strconv.Atoi(fields[0])
	p50, err50 := time.ParseDuration(fields[1])
	p99, err99 := time.ParseDuration(fields[2])
	if err := errors.Join(err, err50, err99); err != nil {
		r.t.Fatal(err)
	}
	return events, p50, p99
}
