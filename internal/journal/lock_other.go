//go:build !unix

package journal

import (
	"errors"
	"os"
	"runtime"
)

var errLocked = errors.New("locked")

// lockFile fails: what the files are used for here was tried on Unix only.
func lockFile(name string) (*os.File, error) {
	return nil, &os.PathError{Op: "lock", Path: name, Err: errors.New("not possible on " + runtime.GOOS)}
}

func syncDir(string) error { return nil }
