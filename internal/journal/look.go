package journal

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Look looks at a directory for logs of the given names without changing it: whether OpenDir would
// take it, and whether the beginnings of its files can be understood. inUse says that a process has
// it open; then its files are not looked at. A directory that is missing is fine.
func Look(path string, names ...string) (inUse bool, err error) {
	if err := possible(); err != nil {
		return false, err
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return false, err
	}
	d := &Dir{path: path, names: names}
	if err := d.check(); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, err
	}
	lock := filepath.Join(path, lockName)
	if _, err := os.Lstat(lock); err == nil { // else nobody has it, and it would be made
		f, err := lockFile(lock)
		if errors.Is(err, errLocked) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		defer f.Close()
	}
	for _, name := range names {
		numbers, _, err := d.segments(name)
		if err != nil {
			return false, err
		}
		for _, n := range numbers {
			if err := d.lookAt(name, n); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// lookAt looks at the head of a segment.
func (d *Dir) lookAt(name string, number uint64) error {
	f, err := os.Open(d.file(name, number))
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, headBytes)
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return err
	}
	if _, wrong := parseHead(b[:n], name, number); wrong != "" {
		return d.Bad(fileName(name, number), wrong)
	}
	return nil
}
