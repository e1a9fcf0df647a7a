//go:build unix

package journal

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// possible returns an error where a directory cannot be used.
func possible() error { return nil }

var errLocked = errors.New("locked")

// lockFile opens a file that no other has open in this way. The lock ends with the process,
// however that ends.
func lockFile(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		err = errLocked
	default:
		err = &os.PathError{Op: "lock", Path: name, Err: err}
	}
	_ = f.Close()
	return nil, err
}

// syncDir makes what was created, renamed and removed in a directory durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}
