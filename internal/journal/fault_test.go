package journal_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"ssegateway/internal/bubble"
	"ssegateway/internal/journal"
	"ssegateway/internal/journal/journaltest"
)

// reread returns what the next process would find.
func reread(t *testing.T, disk *journaltest.Disk, dir string) []string {
	t.Helper()
	to := t.TempDir()
	if err := disk.Kill(dir, to); err != nil {
		t.Fatal(err)
	}
	o, err := open(to, journal.Env{})
	if err != nil {
		t.Fatal(err)
	}
	_ = o.dir.Close()
	return o.read
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%.200q, want %.200q", got, want)
	}
}

// TestFull: wherever a disk is full, what is refused is not there, what was there stays, and when there is room
// the log goes on by itself. Also where the rest of a write cannot be cut off.
func TestFull(t *testing.T) {
	const frame = 12 + 5 + 100 // bytes of a write below
	long := strings.Repeat("l", 100)
	for room := range int64(frame) {
		for _, stuck := range []bool{false, true} {
			disk, dir := journaltest.New(), t.TempDir()
			o := start(t, dir, journal.Env{Wrap: disk.Wrap}, inSegments)
			o.write(t, "a")
			disk.Fill(room)
			disk.FailTruncate(stuck)
			if err := o.Append(text{string: long}); !errors.Is(err, journal.ErrAway) || !strings.Contains(err.Error(), "no space left") {
				t.Fatal(err)
			}
			expect(t, reread(t, disk, dir), "a")
			writes, _ := disk.Counts()
			if err := o.Append(text{string: "b"}); !errors.Is(err, journal.ErrAway) {
				t.Fatal(err)
			}
			if again, _ := disk.Counts(); again != writes {
				t.Fatal("written, although the disk is full")
			}
			if away, why := o.Away(); away <= 0 || why == nil {
				t.Fatal(away, why)
			}
			disk.Fill(frame - 1) // less than what was refused
			if err := o.Probe(); err == nil {
				t.Fatal("there is not room enough")
			}
			expect(t, reread(t, disk, dir), "a")
			disk.Empty()
			if err := o.Probe(); (err != nil) != stuck {
				t.Fatal(err)
			}
			expect(t, reread(t, disk, dir), "a")
			disk.FailTruncate(false)
			if err := o.Probe(); err != nil {
				t.Fatal(err)
			}
			if away, why := o.Away(); away != 0 || why != nil {
				t.Fatal(away, why)
			}
			o.write(t, "c")
			expect(t, reread(t, disk, dir), "a", "c")
			if err := o.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestFullBetweenSegments: there is no room for the next file.
func TestFullBetweenSegments(t *testing.T) {
	disk, dir := journaltest.New(), t.TempDir()
	w := inSegments
	w.SegmentBytes = 1
	for room := range int64(120) {
		o := start(t, dir, journal.Env{Wrap: disk.Wrap}, w)
		disk.Fill(room)
		if err := o.Append(text{string: "never"}); !errors.Is(err, journal.ErrAway) {
			t.Fatal(err)
		}
		_ = o.dir.Close() // killed with an unfinished file
		disk.Empty()
	}
	o := start(t, dir, journal.Env{Wrap: disk.Wrap}, w)
	disk.Fill(10)
	if err := o.Append(text{string: "never"}); !errors.Is(err, journal.ErrAway) {
		t.Fatal(err)
	}
	if err := o.Close(); err == nil {
		t.Fatal("a clean stop, although nothing can be written")
	}
	_ = o.dir.Close()
	disk.Empty()
	o = start(t, dir, journal.Env{Wrap: disk.Wrap}, w)
	o.write(t, "a", "b")
	expect(t, reread(t, disk, dir), "a", "b")
}

// TestSyncFails: with Sync an entry that is not on the disk was not written, or it is said that this is unknown.
func TestSyncFails(t *testing.T) {
	w := inSegments
	w.Sync = true
	for _, test := range []struct {
		syncs int  // that fail
		stuck bool // it cannot be cut off either
		sure  bool
		found []string
	}{
		{1, false, true, []string{"a"}},
		{2, false, false, []string{"a"}},
		{1, true, false, []string{"a", "never"}},
	} {
		disk, dir := journaltest.New(), t.TempDir()
		o := start(t, dir, journal.Env{Wrap: disk.Wrap}, w)
		o.write(t, "a")
		disk.FailSync(test.syncs)
		disk.FailTruncate(test.stuck)
		err := o.Append(text{string: "never"})
		if err == nil || errors.Is(err, journal.ErrAway) != test.sure {
			t.Errorf("%+v: %v", test, err)
		}
		expect(t, reread(t, disk, dir), test.found...)
		disk.FailSync(0)
		disk.FailTruncate(false)
		if err := o.Probe(); err != nil {
			t.Error(err)
		}
		o.write(t, "b")
		expect(t, reread(t, disk, dir), "a", "b")
	}
	disk := journaltest.New()
	o := start(t, t.TempDir(), journal.Env{Wrap: disk.Wrap}, inSegments)
	o.write(t, "a")
	disk.FailSync(2)
	if err := o.Sync(); err == nil {
		t.Error("no error")
	}
	if err := o.Append(text{string: "b"}); !errors.Is(err, journal.ErrAway) {
		t.Error(err)
	}
	if o.Probe() == nil {
		t.Error("nothing is synced")
	}
	if err := o.Probe(); err != nil {
		t.Error(err)
	}
	o.write(t, "b")
}

// TestSyncFailsMeanwhile: a write that was under way when a sync failed does not make that unsaid.
func TestSyncFailsMeanwhile(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		disk, open := journaltest.New(), make(chan struct{}, 1)
		o := start(t, t.TempDir(), journal.Env{Wrap: func(f journal.File) journal.File { return journaltest.Gate{File: disk.Wrap(f), Open: open} }}, inSegments)
		open <- struct{}{}
		o.write(t, "a")
		written := make(chan error, 1)
		go func() { written <- o.Append(text{string: "b"}) }()
		synctest.Wait()
		disk.FailSync(1)
		if err := o.Sync(); err == nil {
			t.Error("no error")
		}
		open <- struct{}{}
		if err := <-written; err != nil {
			t.Error(err)
		}
		if away, why := o.Away(); away == 0 || why == nil {
			t.Error("it is not away")
		}
		close(open)
		if err := o.Probe(); err != nil {
			t.Error(err)
		}
		if away, why := o.Away(); away != 0 || why != nil {
			t.Error(away, why)
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
}
