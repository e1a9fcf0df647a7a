package server

import (
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"ssegateway/internal/logging"
)

// followed is what was made of files, and follows them: who asks for it and finds them changed makes it
// anew. Files that cannot be used leave the former in use.
type followed[T any] struct {
	files    []string
	what     string // is not usable, in the log
	log      *slog.Logger
	unusable *logging.Throttle
	read     func() (*T, error)          // makes it of the files; the error names the settings
	say      func(made *T, changed bool) // logs what there is to say of a new one
	current  atomic.Pointer[T]

	loading sync.Mutex    // held while the files are read; who asks does not wait for it
	seen    []os.FileInfo // the files, as they were when it was made
	checked time.Time
}

// followCheck is the shortest time between two looks at the files.
const followCheck = time.Second

// load makes it, whether the files have changed or not.
func (f *followed[T]) load() error {
	f.loading.Lock()
	defer f.loading.Unlock()
	return f.loadLocked(true)
}

// loadLocked makes it if the files have changed, or anyway.
func (f *followed[T]) loadLocked(anyway bool) error {
	f.checked = time.Now()
	files := make([]os.FileInfo, len(f.files))
	same := len(f.seen) == len(files)
	for i, file := range f.files {
		files[i], _ = os.Stat(file) // a missing file cannot be read below
		same = same && unchanged(files[i], f.seen[i])
	}
	if same && !anyway {
		return nil
	}
	made, err := f.read()
	if err != nil {
		return err
	}
	f.seen = files
	before := f.current.Swap(made)
	f.say(made, before != nil && !anyway)
	return nil
}

func unchanged(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// get returns it, made anew if the files have changed.
func (f *followed[T]) get() *T {
	if err := f.follow(); err != nil {
		f.unusable.Log(f.log, slog.LevelError, "the changed "+f.what+" is not usable, the former stays in use", slog.String("error", err.Error()))
	}
	return f.current.Load()
}

// follow makes it anew if the files have changed, unless another goroutine does so or just has.
func (f *followed[T]) follow() error {
	if !f.loading.TryLock() {
		return nil
	}
	defer f.loading.Unlock()
	if time.Since(f.checked) < followCheck {
		return nil
	}
	return f.loadLocked(false)
}

// names returns the files.
func (f *followed[T]) names() []string { return f.files }
