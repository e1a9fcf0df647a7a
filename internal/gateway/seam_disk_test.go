package gateway_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/broker/disk"
	"ssegateway/internal/bubble"
	"ssegateway/internal/journal"
	"ssegateway/internal/journal/journaltest"
)

// TestSeamOnDisk is TestSeam with a state directory. Lives end between two steps, or at any write or sync: before it, in the
// midst of it, or when it was done but nobody knows yet.
func TestSeamOnDisk(t *testing.T) {
	testLives(t, bubble.Test, func(s *seam, random *rand.Rand) home {
		bound := seamBound(random)
		if random.IntN(2) == 0 {
			bound = min(bound, 2000+random.Int64N(8000)) // files come and go, and what is retained outlives them
		}
		return &diskHome{
			seam: s, random: random, path: s.t.TempDir(), disk: journaltest.New(), segmentBytes: 700 + random.Int64N(3000),
			options: disk.Options{MaxBytes: bound, MaxAge: time.Hour, RetainedBytes: 1 << 40, Sync: random.IntN(4) == 0},
		}
	})
}

// diskHome is a directory.
type diskHome struct {
	seam         *seam
	random       *rand.Rand
	path         string
	disk         *journaltest.Disk
	segmentBytes int64
	options      disk.Options
	boot         int
	store        *disk.Store
	process      *mortal
	clean, cut   bool // the end of the life before
}

func (h *diskHome) open() (broker.Engine, *broker.Tailer) {
	h.process = &mortal{random: rand.New(rand.NewPCG(h.random.Uint64(), 0))}
	world := journal.Env{Boot: strconv.Itoa(h.boot), Wrap: func(f journal.File) journal.File { return &mortalFile{h.disk.Wrap(f), h.process} }}
	store, err := disk.OpenIn(h.path, h.options, world, h.segmentBytes)
	if err != nil {
		h.seam.t.Fatal(err)
	}
	h.store = store
	tailer, _ := store.Log().Tail()
	return store, tailer
}

func (h *diskHome) risk() {
	if h.random.IntN(2) == 0 {
		h.process.dieAfter(1 + h.random.IntN(150))
	}
}

func (h *diskHome) end(stop func()) {
	h.clean, h.cut = h.random.IntN(3) == 0 && h.process.spare(), h.random.IntN(3) == 0
	if !h.clean {
		h.process.die()
	}
	stop()
	if err := h.store.Close(); h.clean && err != nil {
		h.seam.t.Error(err)
	}
	next, err := os.MkdirTemp(h.seam.t.TempDir(), "")
	if err != nil {
		h.seam.t.Fatal(err)
	}
	if h.cut {
		h.boot++
		err = h.disk.Cut(h.path, next, h.random)
	} else {
		err = h.disk.Kill(h.path, next)
	}
	if err = errors.Join(err, os.RemoveAll(h.path)); err != nil {
		h.seam.t.Fatal(err)
	}
	h.path = next
}

func (h *diskHome) follows(before *era, now broker.Stats) {
	least := before.last
	lossy := h.cut && !h.clean && !h.options.Sync
	if lossy {
		least = 0
		for offset, x := range before.at { // all is synced after a second
			if h.process.died.Sub(x.when) > time.Second {
				least = max(least, offset)
			}
		}
	}
	switch {
	case now.Last < least:
		h.seam.failf("the log ends at %d, and had to reach %d", now.Last, least)
	case lossy && now.Epoch == before.epoch:
		h.seam.failf("the epoch has survived a cut of power")
	case !lossy && now.Epoch != before.epoch:
		h.seam.failf("another epoch; clean %v, cut %v, sync %v", h.clean, h.cut, h.options.Sync)
	}
}

func (h *diskHome) settle() { synctest.Wait() }

func (h *diskHome) left() {
	time.Sleep(time.Second) // fake clock: the gateway looks after those that have left
	synctest.Wait()
}

func (h *diskHome) other() broker.Engine { return nil }

func (h *diskHome) dead() bool { return h.process.dead() }

func (h *diskHome) pause(random *rand.Rand, _ bool) {
	if random.IntN(30) == 0 {
		time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond) // fake clock
	}
}

// mortal is a process that is killed. From then on it writes nothing.
type mortal struct {
	mu     sync.Mutex
	random *rand.Rand
	after  int       // so many writes and syncs it is killed; 0: it is not
	died   time.Time // zero: it lives
}

var errKilled = errors.New("the process is killed")

func (m *mortal) dieAfter(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.after = n
}

func (m *mortal) die() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.died.IsZero() {
		m.died = time.Now()
	}
}

// spare lets the process live, and reports whether it does.
func (m *mortal) spare() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.after = 0
	return m.died.IsZero()
}

func (m *mortal) dead() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.died.IsZero()
}

// do does something to a file, of which a part can be done: nothing, something, or all of size.
func (m *mortal) do(size int, f func(size int) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.died.IsZero() {
		return errKilled
	}
	if m.after--; m.after != 0 {
		return f(size)
	}
	m.died = time.Now()
	part := [...]int{0, m.random.IntN(size + 1), size}[m.random.IntN(3)]
	if part > 0 {
		_ = f(part)
	}
	return errKilled
}

// mortalFile is a file of a process.
type mortalFile struct {
	journal.File

	process *mortal
}

func (f *mortalFile) WriteAt(p []byte, at int64) (n int, err error) {
	err = f.process.do(len(p), func(size int) (err error) {
		n, err = f.File.WriteAt(p[:size], at)
		return err
	})
	return n, err
}

func (f *mortalFile) Truncate(size int64) error {
	return f.process.do(1, func(int) error { return f.File.Truncate(size) })
}

func (f *mortalFile) Sync() error {
	return f.process.do(1, func(int) error { return f.File.Sync() })
}
