package journal

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncData syncs a file's data and its length.
func syncData(f *os.File) error {
	c, err := f.SyscallConn() // holds the descriptor, which another goroutine may be closing
	if err != nil {
		return err
	}
	var failed error
	err = c.Control(func(fd uintptr) {
		for failed = unix.EINTR; failed == unix.EINTR; {
			failed = unix.Fdatasync(int(fd))
		}
	})
	if err != nil {
		return err
	}
	return os.NewSyscallError("fdatasync", failed)
}
