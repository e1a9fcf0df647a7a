package server

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRemoveStaleSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "gw") // a short path: sockets have a limit of about 100 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	is := func(path string) bool {
		_, err := os.Lstat(path)
		return err == nil
	}

	if err := removeStaleSocket(filepath.Join(dir, "none")); err != nil {
		t.Error(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := removeStaleSocket(file); err != nil || !is(file) {
		t.Error("a file that is no socket:", err)
	}

	left := filepath.Join(dir, "left")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: left, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if err := removeStaleSocket(left); err == nil || !is(left) || !strings.Contains(err.Error(), left) {
		t.Error("a socket in use:", err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	if err := removeStaleSocket(left); err != nil || is(left) {
		t.Error("a socket that was left:", err)
	}

	// One whose process is too busy to accept.
	busy := filepath.Join(dir, "busy")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: busy}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for {
		c, err := net.Dial("unix", busy)
		if err != nil {
			break // the backlog is full
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	if err := removeStaleSocket(busy); !errors.Is(err, unix.EAGAIN) || !is(busy) {
		t.Error("a busy process:", err)
	}
}

// At its end a listener removes its own socket, not one that took its place meanwhile.
func TestSocketOfAnother(t *testing.T) {
	dir, err := os.MkdirTemp("", "gw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	first, err := listenUnix(t.Context(), path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil { // as the operator may do
		t.Fatal(err)
	}
	second, err := listenUnix(t.Context(), path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	_ = first.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal("the other's socket is gone:", err)
	}
	_ = c.Close()
	_ = second.Close()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("its own socket stayed:", err)
	}
}

// A socket has the permissions that it is to have, whatever the umask, and never more, not even for a moment.
func TestSocketMode(t *testing.T) {
	for _, umask := range []int{0, 0o22, 0o77} {
		for _, mode := range []os.FileMode{0o600, 0o660, 0o666} {
			path := filepath.Join(t.TempDir(), "s")
			before := unix.Umask(umask)
			var bound os.FileMode
			lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return limitSocket(c, mode) }}
			l, err := lc.Listen(t.Context(), "unix", path)
			if err == nil {
				bound = permissions(t, path)
				_ = l.Close()
				l, err = listenUnix(t.Context(), path, mode)
			}
			unix.Umask(before)
			if err != nil {
				t.Fatal(err)
			}
			if got := permissions(t, path); got != mode || bound&^mode != 0 {
				t.Errorf("umask %o: %o, and %o for a moment, want %o", umask, got, bound, mode)
			}
			_ = l.Close()
		}
	}
}

func permissions(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}
