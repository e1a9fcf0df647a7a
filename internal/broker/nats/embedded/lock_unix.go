//go:build unix

package embedded

import (
	"fmt"
	"os"
	"syscall"
)

// lockFile opens a file that no other process has open in this way. The lock ends with
// the process, however that ends.
func lockFile(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s is locked, by another gateway: %w", name, err)
	}
	return f, nil
}
