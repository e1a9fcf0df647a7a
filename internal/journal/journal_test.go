package journal_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"ssegateway/internal/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const boot = "this run of the machine"

// text is an entry of one record, which notes its place in the order.
type text struct {
	string
	order *[]string
}

func (e text) Records(b *journal.Batch) {
	dst, _ := b.Begin(7)
	b.End(append(dst, e.string...))
}

func (e text) Written(journal.Place) {
	if e.order != nil {
		*e.order = append(*e.order, e.string)
	}
}

// opened is a log with its directory.
type opened struct {
	*journal.Log
	dir  *journal.Dir
	read []string
}

var inSegments = journal.Options{SegmentBytes: 1 << 20, Begin: func(b *journal.Batch, segment uint64) {
	text{string: "begin"}.Records(b)
}}

func open(path string, env journal.Env) (o opened, err error) {
	if env.Boot == "" {
		env.Boot = boot
	}
	if o.dir, err = journal.OpenDir(path, env, "test"); err != nil {
		return o, err
	}
	o.Log, err = o.dir.Open("test", func(r journal.Record) error {
		if s := string(r.Data); s != "begin" {
			o.read = append(o.read, s)
		}
		return nil
	})
	if err != nil {
		_ = o.dir.Close()
	}
	return o, err
}

func start(t *testing.T, path string, env journal.Env, w journal.Options) opened {
	t.Helper()
	o, err := open(path, env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.dir.Close() })
	if err := o.Start(w); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close() })
	return o
}

func (o opened) write(t *testing.T, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if err := o.Append(text{string: s}); err != nil {
			t.Fatal(err)
		}
	}
}

func newest(t *testing.T, dir string) string {
	files, err := filepath.Glob(filepath.Join(dir, "*.journal"))
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	return slices.Max(files)
}

func content(t *testing.T, file string) []byte {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func put(t *testing.T, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// example makes a directory with two segments, and returns it and the ends of the newest one's frames.
func example(t *testing.T, sync bool) (dir string, texts []string, ends []int) {
	dir = t.TempDir()
	w := inSegments
	w.Sync = sync
	first := start(t, dir, journal.Env{}, w)
	first.write(t, "a", "b")
	_ = first.Close()
	_ = first.dir.Close()
	o := start(t, dir, journal.Env{}, w)
	length := func() int { return len(content(t, newest(t, dir))) }
	ends = append(ends, length())
	for n := range 5 {
		s := strconv.Itoa(n) + strings.Repeat("-", n*3)
		o.write(t, s)
		texts = append(texts, s)
		ends = append(ends, length())
	}
	_ = o.dir.Close() // the process is gone
	return dir, texts, ends
}

// TestCut: wherever the newest file ends, all that was written before is there, and what is torn is not.
// The log goes on behind it.
func TestCut(t *testing.T) {
	dir, texts, ends := example(t, false)
	file := newest(t, dir)
	whole := content(t, file)
	for length := range whole {
		put(t, file, whole[:length])
		o, err := open(dir, journal.Env{})
		if length < ends[0] {
			if err == nil {
				t.Fatalf("a beginning of %d bytes is taken for a whole one", length)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"a", "b"}
		for n, end := range ends[1:] {
			if end <= length {
				want = append(want, texts[n])
			}
		}
		if !slices.Equal(o.read, want) || o.Clean() || o.Lost() || (o.Dropped() > 0) == slices.Contains(ends, length) {
			t.Fatalf("cut at %d: %q, want %q; clean %v, lost %v, dropped %d", length, o.read, want, o.Clean(), o.Lost(), o.Dropped())
		}
		if err := o.Start(inSegments); err != nil {
			t.Fatal(err)
		}
		o.write(t, "next")
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		_ = o.dir.Close()
		again, err := open(dir, journal.Env{})
		if err != nil || !slices.Equal(again.read, append(want, "next")) || !again.Clean() {
			t.Fatalf("cut at %d, then: %v, %q, clean %v", length, err, again.read, again.Clean())
		}
		_ = again.dir.Close()
		if last := newest(t, dir); last != file {
			if err := os.Remove(last); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestFlip: whatever byte is another one, in whatever file, that is an error, and nothing is written.
func TestFlip(t *testing.T) {
	dir, _, _ := example(t, false)
	files, _ := filepath.Glob(filepath.Join(dir, "*.journal"))
	for _, file := range files {
		whole := content(t, file)
		for at := range whole {
			for _, change := range []byte{1, 0x80, 0xFF} {
				b := bytes.Clone(whole)
				b[at] ^= change
				put(t, file, b)
				o, err := open(dir, journal.Env{})
				if err == nil {
					t.Fatalf("%s, byte %d: %q", file, at, o.read)
				}
				if !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "move the directory "+dir+" away") {
					t.Fatalf("%v", err)
				}
			}
			if b := content(t, file); len(b) != len(whole) {
				t.Fatal("it was written to")
			}
		}
		put(t, file, whole)
	}
}

// TestFlipAfterPowerCut: a machine that stops may leave anything where nothing was synced. What was synced
// write by write is still told from that, but for the last write.
func TestFlipAfterPowerCut(t *testing.T) {
	for _, sync := range []bool{false, true} {
		dir, texts, ends := example(t, sync)
		file := newest(t, dir)
		whole := content(t, file)
		for at := range whole {
			b := bytes.Clone(whole)
			b[at] ^= 0xFF
			put(t, file, b)
			o, err := open(dir, journal.Env{Boot: "another"})
			frame := 0 // with the damage
			for at >= ends[frame] {
				frame++
			}
			if last := frame == len(texts); frame == 0 || sync && !last {
				if err == nil {
					t.Fatalf("byte %d: %q", at, o.read)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := append([]string{"a", "b"}, texts[:frame-1]...); !slices.Equal(o.read, want) || o.Dropped() == 0 || o.Lost() == sync {
				t.Fatalf("byte %d: %q, want %q; dropped %d, lost %v", at, o.read, want, o.Dropped(), o.Lost())
			}
			_ = o.dir.Close()
		}
	}
}

// TestLost: who has to expect that something is missing.
func TestLost(t *testing.T) {
	for _, test := range []struct{ sync, clean, boot, lost bool }{
		{false, false, false, false},
		{false, false, true, true},
		{false, true, true, false},
		{true, false, true, false},
		{true, true, true, false},
	} {
		dir := t.TempDir()
		w := inSegments
		w.Sync = test.sync
		first := start(t, dir, journal.Env{}, w)
		first.write(t, "a")
		if test.clean {
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
		}
		_ = first.dir.Close()
		env := journal.Env{}
		if test.boot {
			env.Boot = "another"
		}
		o := start(t, dir, env, inSegments)
		if o.Lost() != test.lost {
			t.Errorf("%+v: lost is %v", test, o.Lost())
		}
		// A start that nothing follows leaves no doubt about what was before it.
		_ = o.dir.Close()
		if o = start(t, dir, journal.Env{Boot: env.Boot}, inSegments); o.Lost() {
			t.Errorf("%+v: lost at the second start", test)
		}
		if n := len(o.Segments()); n != 2 {
			t.Errorf("%d files after two starts that wrote nothing", n)
		}
	}
}

// TestForeign: what is not of this package is left as it is.
func TestForeign(t *testing.T) {
	for name, b := range map[string]string{
		"notes.txt":                    "mine",
		"test-00000001.journal":        strings.Repeat("no journal ", 100),
		"other-00000001.journal":       "",
		"test-000000001.journal":       "",
		"test-99999999999999999999999": "",
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, name)
		put(t, file, []byte(b))
		_, err := open(dir, journal.Env{})
		if err == nil || !strings.Contains(err.Error(), file+" is a foreign file: move the directory") {
			t.Errorf("%s: %v", name, err)
		}
		if string(content(t, file)) != b {
			t.Error("it was written to")
		}
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	start(t, dir, journal.Env{}, inSegments)
}

// TestNewer: a newer version's file is told from a damaged one.
func TestNewer(t *testing.T) {
	dir, _, _ := example(t, false)
	file := newest(t, dir)
	b := content(t, file)
	b[8]++
	put(t, file, b)
	if _, err := open(dir, journal.Env{}); err == nil || !strings.Contains(err.Error(), "was written by a newer version") {
		t.Error(err)
	}
}

// TestMissing: a file that is missing, or that is another's.
func TestMissing(t *testing.T) {
	dir, _, _ := example(t, false)
	o := start(t, dir, journal.Env{}, inSegments)
	o.write(t, "x")
	_ = o.dir.Close()
	second := filepath.Join(dir, "test-00000002.journal")
	b := content(t, second)
	if err := os.Remove(second); err != nil {
		t.Fatal(err)
	}
	if _, err := open(dir, journal.Env{}); err == nil || !strings.Contains(err.Error(), second+" is missing") {
		t.Error(err)
	}
	other, _, _ := example(t, false)
	put(t, second, content(t, filepath.Join(other, "test-00000002.journal")))
	if _, err := open(dir, journal.Env{}); err == nil || !strings.Contains(err.Error(), "belongs to another directory") {
		t.Error(err)
	}
	put(t, second, b)
	if _, err := open(dir, journal.Env{}); err != nil {
		t.Error(err)
	}
}

// TestOneProcess: a directory has one process at a time; its lock ends with it, however that ends.
func TestOneProcess(t *testing.T) {
	const variable = "JOURNAL_TEST_DIR"
	if dir := os.Getenv(variable); dir != "" {
		_, err := open(dir, journal.Env{})
		fmt.Fprintln(os.Stdout, err)
		return
	}
	dir := t.TempDir()
	o := start(t, dir, journal.Env{}, inSegments)
	second := func() string {
		c := exec.Command(os.Args[0], "-test.run=^TestOneProcess$")
		c.Env = append(os.Environ(), variable+"="+dir)
		out, err := c.Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if got := second(); !strings.Contains(got, dir+" is in use by another process: stop that one") {
		t.Error(got)
	}
	_ = o.dir.Close()
	if got := second(); !strings.HasPrefix(got, "<nil>") {
		t.Error(got)
	}
}

// FuzzOpen: no content of a file does more than make an error.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("x"), 0, false)
	f.Add([]byte{0xFF, 0xFF, 0xFF, 0x7F}, 100, true)
	f.Fuzz(func(t *testing.T, b []byte, at int, power bool) {
		dir, texts, _ := example(t, power)
		file := newest(t, dir)
		whole := content(t, file)
		at = min(max(at, 0), len(whole))
		put(t, file, append(bytes.Clone(whole[:at]), b...))
		env := journal.Env{}
		if power {
			env.Boot = "another"
		}
		o, err := open(dir, env)
		if err != nil {
			return
		}
		all := append([]string{"a", "b"}, texts...)
		if len(o.read) > len(all) || !slices.Equal(o.read, all[:len(o.read)]) {
			t.Errorf("%q", o.read)
		}
		_ = o.dir.Close()
	})
}
