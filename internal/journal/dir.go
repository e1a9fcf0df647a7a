package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Dir is a directory that is this process's alone.
type Dir struct {
	path  string
	boot  string
	lock  *os.File
	wrap  func(File) File
	names []string
}

// File is what a Log writes to.
type File interface {
	WriteAt(p []byte, at int64) (int, error)
	Truncate(size int64) error
	Sync() error // of the data
	Close() error
	Name() string
}

// Env is what a directory depends on outside of itself. The zero Env is the real one.
type Env struct {
	Boot string          // names this run of the machine; empty: what the system says
	Wrap func(File) File // stands between a Log and its files, for tests of what a disk may do; nil: nothing does
}

// DirError is an error about a directory or a file in it. Its text says what to do.
type DirError struct {
	Path string // of the directory or the file
	What string
	Do   string
}

func (e *DirError) Error() string { return e.Path + " " + e.What + ": " + e.Do }

// Bad returns the error of a file that is not as it should be. It says what to do.
func (d *Dir) Bad(file, what string) error {
	return &DirError{filepath.Join(d.path, file), what, "move the directory " + d.path + " away to begin with an empty one"}
}

const lockName = "lock"

var segmentName = regexp.MustCompile(`^([a-z]+)-([0-9]{8,20})\.journal(\.new)?$`)

// OpenDir locks a directory for logs of the given names. It is made where it is missing. One that has other files is refused.
// A name has at most 16 letters, each one of a to z.
func OpenDir(path string, env Env, names ...string) (*Dir, error) {
	if err := possible(); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: path, boot: env.Boot, wrap: env.Wrap, names: names}
	if d.boot == "" {
		d.boot = bootID()
	}
	if d.wrap == nil {
		d.wrap = func(f File) File { return f }
	}
	if err := makeDir(path); err != nil {
		return nil, err
	}
	if err := d.check(); err != nil { // before anything is written there
		return nil, err
	}
	if d.lock, err = lockFile(filepath.Join(path, lockName)); err != nil {
		if errors.Is(err, errLocked) {
			return nil, &DirError{path, "is in use by another process", "stop that one, or name another directory"}
		}
		return nil, err
	}
	if err := d.check(); err != nil {
		_ = d.Close()
		return nil, err
	}
	return d, nil
}

// makeDir makes a directory where it is missing, and those above it, and makes that durable.
func makeDir(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	above := filepath.Dir(path)
	if err := makeDir(above); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(above)
}

// KnowsBoot reports whether the system tells one run of the machine from another. Where it does not, every stop that
// was not clean may have been the machine's.
func (d *Dir) KnowsBoot() bool { return d.boot != "" }

// Close gives the directory up. Its logs are closed before.
func (d *Dir) Close() error { return d.lock.Close() }

// check refuses a directory with files that are not of this package.
func (d *Dir) check() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		parts := segmentName.FindStringSubmatch(name)
		switch {
		case name == lockName, name == "lost+found", strings.HasPrefix(name, "."): // as file systems and volumes have them
		case len(parts) == 0 || !slices.Contains(d.names, parts[1]) || !e.Type().IsRegular():
			return d.Bad(name, "is a foreign file")
		}
	}
	return nil
}

// segments returns the numbers of a log's segments, and the files of segments that were not finished.
func (d *Dir) segments(log string) (numbers []uint64, unfinished []string, err error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		parts := segmentName.FindStringSubmatch(e.Name())
		if len(parts) == 0 || parts[1] != log {
			continue
		}
		if parts[3] != "" {
			unfinished = append(unfinished, e.Name())
			continue
		}
		n, err := strconv.ParseUint(parts[2], 10, 64)
		if err != nil || e.Name() != fileName(log, n) {
			return nil, nil, d.Bad(e.Name(), "is a foreign file")
		}
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for i := 1; i < len(numbers); i++ {
		if numbers[i] != numbers[i-1]+1 {
			return nil, nil, d.Bad(fileName(log, numbers[i-1]+1), "is missing")
		}
	}
	return numbers, unfinished, nil
}

func fileName(log string, number uint64) string { return fmt.Sprintf("%s-%08d.journal", log, number) }

func (d *Dir) file(log string, number uint64) string {
	return filepath.Join(d.path, fileName(log, number))
}

// remove removes a file. That it was not there is no error.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// osFile is a file of the system.
type osFile struct{ *os.File }

// Sync implements File.
func (f osFile) Sync() error { return syncData(f.File) }
