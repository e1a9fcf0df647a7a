// Package journaltest has a disk that fails as disks do, for tests of what is kept in a journal.
package journaltest

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"ssegateway/internal/journal"
)

// Disk stands between journals and their files: it can be full, it can fail, and it knows what was synced.
// It outlives the processes that write to it. It is safe for concurrent use.
type Disk struct {
	mu      sync.Mutex
	room    int64 // bytes that can be written; negative: no bound
	badSync int   // syncs that fail; negative: all
	noCut   bool
	durable map[string][]byte // by name: what a power cut leaves for certain
	writes  int
	syncs   int
}

// New returns a disk without bounds.
func New() *Disk { return &Disk{room: -1, durable: map[string][]byte{}} }

// Fill leaves room for so many bytes. A write that finds too little writes what there is room for, and fails.
func (d *Disk) Fill(room int64) { d.set(func() { d.room = room }) }

// Empty makes room without bound.
func (d *Disk) Empty() { d.Fill(-1) }

// FailSync makes the next n syncs fail; negative: all.
func (d *Disk) FailSync(n int) { d.set(func() { d.badSync = n }) }

// FailTruncate makes every truncation fail, or work again.
func (d *Disk) FailTruncate(fail bool) { d.set(func() { d.noCut = fail }) }

// Counts returns the numbers of writes and syncs so far.
func (d *Disk) Counts() (writes, syncs int) {
	d.set(func() { writes, syncs = d.writes, d.syncs })
	return writes, syncs
}

func (d *Disk) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// Wrap is for journal.Env.
func (d *Disk) Wrap(f journal.File) journal.File { return &file{f, d} }

type file struct {
	journal.File
	disk *Disk
}

func key(name string) string { return strings.TrimSuffix(filepath.Base(name), ".new") }

func (f *file) WriteAt(p []byte, at int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.disk.writes++
	if room := f.disk.room; room >= 0 {
		if int64(len(p)) > room {
			n, err := f.File.WriteAt(p[:room], at)
			f.disk.room = 0
			return n, errors.Join(err, syscall.ENOSPC)
		}
		f.disk.room -= int64(len(p))
	}
	return f.File.WriteAt(p, at)
}

func (f *file) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.noCut {
		return syscall.EIO
	}
	return f.File.Truncate(size)
}

func (f *file) Sync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.disk.syncs++
	if f.disk.badSync != 0 {
		f.disk.badSync--
		return syscall.EIO
	}
	b, err := os.ReadFile(f.Name())
	if errors.Is(err, fs.ErrNotExist) {
		b, err = os.ReadFile(strings.TrimSuffix(f.Name(), ".new"))
	}
	if err == nil {
		f.disk.durable[key(f.Name())] = b
	}
	return err
}

// Kill copies a directory as the end of the process leaves it.
func (d *Disk) Kill(from, to string) error {
	return each(from, func(name string, b []byte) error { return os.WriteFile(filepath.Join(to, name), b, 0o600) })
}

// page is the unit in which the cut of power loses what was not synced. It is small, since files of tests are.
const page = 64

// Cut copies a directory as the end of the machine leaves it: of what was not synced each page may be there or not, and the
// file may be shorter. The copy is on the disk.
func (d *Disk) Cut(from, to string, random *rand.Rand) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return each(from, func(name string, b []byte) error {
		kept := d.durable[name]
		least, most := min(len(kept), len(b)), max(len(kept), len(b))
		left := make([]byte, least+random.IntN(most-least+1))
		copy(left, kept)
		for at := 0; at < len(left); at += page {
			if random.IntN(2) == 0 {
				copy(left[at:min(at+page, len(left))], b[min(at, len(b)):])
			}
		}
		d.durable[name] = left
		return os.WriteFile(filepath.Join(to, name), left, 0o600)
	})
}

func each(dir string, f func(name string, b []byte) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == "lock" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		if err := f(e.Name(), b); err != nil {
			return err
		}
	}
	return nil
}

// Gate is a file of which all writes wait for Open, but those of the beginning of a segment.
type Gate struct {
	journal.File

	Open chan struct{}
}

// WriteAt implements journal.File.
func (g Gate) WriteAt(p []byte, at int64) (int, error) {
	if at > 0 {
		<-g.Open
	}
	return g.File.WriteAt(p, at)
}
