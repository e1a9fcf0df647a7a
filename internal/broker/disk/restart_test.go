package disk

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/bubble"
	"ssegateway/internal/journal"
	"ssegateway/internal/journal/journaltest"
	"ssegateway/internal/logging/loggingtest"
	"ssegateway/sse"
)

var plenty = Options{MaxBytes: 64 << 20, MaxAge: time.Hour}

// run opens a store and runs it. stop ends Run; the test is to close the store.
func run(t *testing.T, dir string, o Options, e env) (_ *Store, stop func()) {
	t.Helper()
	s, err := open(dir, o, e)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

func publish(t *testing.T, s *Store, data string) broker.Position {
	t.Helper()
	at, err := s.Append(context.Background(), broker.Publication{Topics: []string{"t"}, Event: sse.Event{Data: data}, Store: true})
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// A killed process's directory has all that it answered, with eight publishers and eight connections at once.
func TestKilled(t *testing.T) {
	const variable = "DISK_TEST_DIR"
	if dir := os.Getenv(variable); dir != "" {
		busy(dir)
		return
	}
	dir := t.TempDir()
	answered := map[uint64]string{} // by offset
	epoch, last := "", uint64(0)
	held, gone := map[broker.Token]bool{}, map[broker.Token]bool{}
	for round := range 6 {
		c := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		c.Env = append(os.Environ(), variable+"="+dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for kill := 200 + rand.IntN(3000); lines.Scan(); kill-- {
			if kill == 0 {
				_ = c.Process.Kill()
			}
			words := strings.Fields(lines.Text())
			switch words[0] {
			case "event":
				offset, _ := strconv.ParseUint(words[1], 10, 64)
				if answered[offset] != "" || offset <= last {
					t.Fatalf("%d is given away twice", offset)
				}
				answered[offset] = words[2]
			case "put":
				held[parse(words[1])] = true
			case "deleted":
				gone[parse(words[1])] = true
			case "error":
				t.Fatal(lines.Text())
			}
		}
		_ = c.Wait()
		s, err := Open(dir, plenty)
		if err != nil {
			t.Fatal(err)
		}
		if epoch == "" {
			epoch = s.log.Epoch()
		}
		stats := s.log.Stats()
		if stats.Epoch != epoch || stats.Trimmed != 0 {
			t.Errorf("round %d: %+v", round, stats)
		}
		there := map[uint64]string{}
		missed, _ := s.log.Missed(0, stats.Last, []string{"t"}, 1<<30)
		for _, r := range missed {
			there[r.Offset] = string(r.Frame.Wire(false))
		}
		for offset, data := range answered {
			if !strings.Contains(there[offset], "data: "+data+"\n") {
				t.Errorf("round %d: %d is %q, and was %q", round, offset, there[offset], data)
			}
		}
		last = stats.Last
		survivors := map[broker.Token]bool{}
		for token := range s.Survivors() {
			survivors[token] = true
			if gone[token] {
				t.Errorf("round %d: a record that was deleted is back", round)
			}
		}
		for token := range held {
			if !survivors[token] && !gone[token] && !deleting(token) {
				t.Errorf("round %d: a record is lost", round)
			}
		}
		_ = s.dir.Close()
	}
	if len(answered) < 500 || len(held) < 500 {
		t.Errorf("%d events and %d records are too few", len(answered), len(held))
	}
}

// busy publishes, puts and deletes until it is killed, and says what was answered.
func busy(dir string) {
	s, err := Open(dir, plenty)
	if err != nil {
		fmt.Fprintln(os.Stdout, "error", err)
		return
	}
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for n := 0; ; n++ {
				data := fmt.Sprint(os.Getpid(), ".", i, ".", n, ".", strings.Repeat("x", n%700))
				at, err := s.Append(context.Background(), broker.Publication{Topics: []string{"t"}, Event: sse.Event{Data: data}, Store: true})
				if err != nil {
					fmt.Fprintln(os.Stdout, "error", err)
				}
				fmt.Fprintln(os.Stdout, "event", at.Offset, data)
			}
		})
		group.Go(func() {
			for n := 0; ; n++ {
				var token broker.Token
				binary.BigEndian.PutUint64(token[:], rand.Uint64())
				token[15] = byte(n % 2)
				if err := s.Put(token, make([]byte, 200)); err != nil {
					fmt.Fprintln(os.Stdout, "error", err)
				}
				fmt.Fprintf(os.Stdout, "put %x\n", token)
				if deleting(token) {
					if err := s.Delete(token); err != nil {
						fmt.Fprintln(os.Stdout, "error", err)
					}
					fmt.Fprintf(os.Stdout, "deleted %x\n", token)
				}
			}
		})
	}
	group.Wait()
}

func deleting(token broker.Token) bool { return token[15] == 1 }

func parse(text string) (token broker.Token) {
	_, _ = hex.Decode(token[:], []byte(text))
	return token
}

// TestTimes: an event is as old after a start as it was before, and goes at its time.
func TestTimes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		dir, o := t.TempDir(), Options{MaxBytes: 1 << 20, MaxAge: 10 * time.Minute}
		s, stop := run(t, dir, o, env{segmentBytes: 1})
		publish(t, s, "a")
		time.Sleep(5 * time.Minute) // fake clock
		b := publish(t, s, "b")
		stop()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5*time.Minute - time.Second) // fake clock
		s, stop = run(t, dir, o, env{segmentBytes: 1})
		if n := s.log.Stats().Events; n != 2 {
			t.Errorf("%d events, want 2", n)
		}
		time.Sleep(3 * time.Second) // fake clock
		synctest.Wait()
		if stats := s.log.Stats(); stats.Events != 1 || stats.Oldest != b.Offset {
			t.Errorf("%+v, want one event", stats)
		}
		if files := s.events.Segments(); files[0].Number != 3 {
			t.Errorf("the first file is %d", files[0].Number)
		}
		time.Sleep(5 * time.Minute) // fake clock
		synctest.Wait()
		if stats := s.log.Stats(); stats.Events != 0 || stats.Trimmed != b.Offset {
			t.Errorf("%+v, want no event", stats)
		}
		if files := s.events.Segments(); len(files) != 1 {
			t.Errorf("%d files for no event", len(files))
		}
		stop()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s, stop = run(t, dir, o, env{segmentBytes: 1})
		if at := publish(t, s, "c"); at.Epoch != b.Epoch || at.Offset != b.Offset+1 || s.log.Stats().Trimmed != b.Offset {
			t.Errorf("%v behind %v; %+v", at, b, s.log.Stats())
		}
		stop()
		_ = s.Close()
	})
}

// TestAway: while the disk is full events are refused at once, those that are not stored go on, and when there is room so does
// everything, by itself. What was deleted meanwhile is not there at the next start.
func TestAway(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		dir, disk, log := t.TempDir(), journaltest.New(), new(loggingtest.Buffer)
		o := plenty
		o.Log = slog.New(slog.NewTextHandler(log, nil))
		e := env{segmentBytes: 1 << 20, Env: journal.Env{Wrap: disk.Wrap}}
		s, stop := run(t, dir, o, e)
		publish(t, s, "a")
		kept, gone := broker.Token{1}, broker.Token{2}
		if err := errors.Join(s.Put(kept, []byte("r")), s.Put(gone, []byte("r"))); err != nil {
			t.Fatal(err)
		}
		disk.Fill(10)
		p := broker.Publication{Topics: []string{"t"}, Event: sse.Event{Data: "b"}, Store: true}
		for range 2 {
			if _, err := s.Append(t.Context(), p); !errors.Is(err, broker.ErrUnavailable) || !strings.Contains(err.Error(), "no space left") {
				t.Error(err)
			}
		}
		p.Store = false
		if _, err := s.Append(t.Context(), p); err != nil {
			t.Error(err)
		}
		if err := s.Put(kept, []byte("new")); err == nil {
			t.Error("a record is put on a full disk")
		}
		if err := s.Delete(gone); err == nil {
			t.Error("a record is deleted on a full disk")
		}
		time.Sleep(10 * time.Second) // fake clock
		synctest.Wait()
		if away := s.Away(); away != 10*time.Second {
			t.Error(away)
		}
		disk.Empty()
		time.Sleep(time.Second) // fake clock
		synctest.Wait()
		if away := s.Away(); away != 0 {
			t.Error(away)
		}
		if at := publish(t, s, "c"); at.Offset <= 2 {
			t.Errorf("%v: the offset of what was refused", at)
		}
		if got := slices.Collect(strings.Lines(log.String())); len(got) != 2 || !strings.Contains(got[0], "cannot be written") || !strings.Contains(got[1], "can be written again") {
			t.Errorf("%q", got)
		}
		stop()
		if _, err := s.Append(t.Context(), broker.Publication{Store: true}); !errors.Is(err, broker.ErrClosed) {
			t.Error(err)
		}
		_ = s.dir.Close() // killed
		if s, err := open(dir, o, e); err != nil {
			t.Error(err)
		} else {
			for token, record := range s.Survivors() {
				if token != kept || string(record) != "r" {
					t.Errorf("%x: %q", token, record)
				}
			}
			_ = s.Close()
		}
	})
}

// TestSurvivors: records come in the order of their connections, also while they are deleted.
func TestSurvivors(t *testing.T) {
	dir := t.TempDir()
	s, stop := run(t, dir, plenty, env{segmentBytes: 4 << 10})
	var want []byte
	for n := range 100 {
		want = append(want, byte(n))
		if err := s.Put(broker.Token{15: byte(n)}, make([]byte, 300)); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, _ = run(t, dir, plenty, env{segmentBytes: 4 << 10})
	if err := s.Put(broker.Token{0: 9}, nil); err != nil { // of this process
		t.Fatal(err)
	}
	var got []byte
	for token, record := range s.Survivors() {
		got = append(got, token[15])
		if len(record) != 300 {
			t.Errorf("%d bytes", len(record))
		}
		if err := s.Delete(token); err != nil {
			t.Fatal(err)
		}
		if err := s.records.Compact(); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if n := len(s.records.Log().Segments()); n > 4 {
		t.Errorf("%d files for one record", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDamageWritesNothing: where one file is damaged no other is touched.
func TestDamageWritesNothing(t *testing.T) {
	dir := t.TempDir()
	s, stop := run(t, dir, plenty, env{segmentBytes: 1 << 20})
	publish(t, s, "a")
	if err := s.Put(broker.Token{}, []byte("r")); err != nil {
		t.Fatal(err)
	}
	stop()
	_ = s.dir.Close()
	names, _ := filepath.Glob(filepath.Join(dir, "*.journal"))
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		bad := slices.Clone(b)
		bad[len(bad)-1] ^= 1
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, plenty); err == nil || !strings.Contains(err.Error(), name+" is damaged at byte") {
			t.Error(err)
		}
		if again, _ := filepath.Glob(filepath.Join(dir, "*.journal*")); !slices.Equal(again, names) {
			t.Errorf("%q, and before %q", again, names)
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := Open(dir, plenty); err != nil {
		t.Error(err)
	} else {
		_ = s.Close()
	}
}
