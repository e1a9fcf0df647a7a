package journal_test

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"ssegateway/internal/bubble"
	"ssegateway/internal/journal"
	"ssegateway/internal/journal/journaltest"
)

// TestGroup: all who come during a write share the next one, and its sync.
func TestGroup(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		disk, open := journaltest.New(), make(chan struct{})
		w := inSegments
		w.Sync = true
		o := start(t, t.TempDir(), journal.Env{Wrap: func(f journal.File) journal.File { return journaltest.Gate{File: disk.Wrap(f), Open: open} }}, w)
		var group sync.WaitGroup
		for n := range 32 {
			group.Go(func() { o.write(t, strconv.Itoa(n)) })
		}
		synctest.Wait()
		close(open)
		group.Wait()
		if writes, syncs := disk.Counts(); writes != 1+2 || syncs != 1+2 {
			t.Errorf("%d writes and %d syncs, of which one is the beginning's", writes, syncs)
		}
	})
}

// TestOrder: there is one order for all who write at once, and the files have it.
func TestOrder(t *testing.T) {
	w := inSegments
	w.SegmentBytes = 4 << 10
	dir := t.TempDir()
	o := start(t, dir, journal.Env{}, w)
	var order []string
	var group sync.WaitGroup
	const writers, each = 32, 50
	for i := range writers {
		group.Go(func() {
			for n := range each {
				if err := o.Append(text{fmt.Sprintf("%d.%d", i, n), &order}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if n := len(o.Segments()); n < 5 {
		t.Errorf("%d segments", n)
	}
	_ = o.dir.Close()
	again, err := open(dir, journal.Env{})
	if err != nil || len(order) != writers*each || !slices.Equal(again.read, order) {
		t.Errorf("%v, %d read, %d written", err, len(again.read), len(order))
	}
}

// TestLoneWriter: who writes alone does that without another goroutine, in one write.
func TestLoneWriter(t *testing.T) {
	disk := journaltest.New()
	o := start(t, t.TempDir(), journal.Env{Wrap: disk.Wrap}, inSegments)
	before, _ := disk.Counts()
	o.write(t, "a", "b", "c")
	if writes, syncs := disk.Counts(); writes != before+3 || syncs != 1 {
		t.Errorf("%d writes, %d syncs", writes-before, syncs)
	}
	if err := o.Sync(); err != nil {
		t.Error(err)
	}
	_ = o.Sync()
	if _, syncs := disk.Counts(); syncs != 2 {
		t.Errorf("%d syncs", syncs)
	}
}
