package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// removeStaleSocket removes a socket that a killed process left. Only a refused connection
// says that nobody listens on it any more; a busy process, or one of another user, may give
// other errors.
func removeStaleSocket(path string) error {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != fs.ModeSocket {
		return nil //nolint:nilerr // there is no socket: to listen says what else is wrong
	}
	c, err := net.Dial("unix", path) //nolint:noctx // a local socket answers at once
	switch {
	case err == nil:
		_ = c.Close()
		return fmt.Errorf("INTERNAL_ADDR: another process listens at unix:%s; stop it, or name another path", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("INTERNAL_ADDR: the socket that another process left cannot be removed: %w", err)
		}
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return fmt.Errorf("INTERNAL_ADDR: unix:%s is there, and it cannot be told whether a process listens on it; stop that process, remove the file, or name another path: %w", path, err)
	}
}
