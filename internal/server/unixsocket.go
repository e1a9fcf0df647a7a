package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// listenUnix makes a socket with these permissions at a path and listens at it. Close removes it if it is still the
// same one: another process may have put its own there.
func listenUnix(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
	if err := removeStaleSocket(path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return limitSocket(c, mode) }}
	listening, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, nameSetting("INTERNAL_ADDR", err)
	}
	l := listening.(*net.UnixListener) //nolint:forcetypeassert // that is what listens there
	l.SetUnlinkOnClose(false)
	made, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("INTERNAL_ADDR: the socket was removed immediately after it was made: %w", err), l.Close())
	}
	listener := &unixListener{UnixListener: l, path: path, made: made}
	if err := os.Chmod(path, mode); err != nil { // to what the umask has taken
		return nil, errors.Join(nameSetting("INTERNAL_SOCKET_MODE", err), listener.Close())
	}
	return listener, nil
}

type unixListener struct {
	*net.UnixListener

	path string
	made fs.FileInfo
	once sync.Once
}

// lookEvery is how often a socket for which nobody comes is looked at.
const lookEvery = time.Second

// Accept implements net.Listener. Like that of a TCP listener it fails for good once the socket was shut down.
func (l *unixListener) Accept() (net.Conn, error) {
	for {
		_ = l.SetDeadline(time.Now().Add(lookEvery))
		nc, err := l.UnixListener.Accept()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return nc, err
		}
		if isShutDown(l.UnixListener) {
			return nil, &net.OpError{Op: "accept", Net: "unix", Addr: l.Addr(), Err: fmt.Errorf("the socket was shut down: %w", syscall.EINVAL)}
		}
	}
}

// Close implements net.Listener.
func (l *unixListener) Close() error {
	l.once.Do(func() {
		if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.made) {
			_ = os.Remove(l.path)
		}
	})
	return l.UnixListener.Close()
}

// removeStaleSocket removes a socket that a killed process left. Only a refused connection
// shows that no process listens on it any more. A busy process, or one of another user, may
// cause other errors.
func removeStaleSocket(path string) error {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != fs.ModeSocket {
		return nil //nolint:nilerr // there is no socket: Listen reports any other problem
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
		return fmt.Errorf("INTERNAL_ADDR: unix:%s exists, and it is unknown whether a process listens on it; stop that process, remove the file, or name another path: %w", path, err)
	}
}
