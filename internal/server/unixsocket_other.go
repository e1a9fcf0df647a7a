//go:build !linux

package server

import (
	"io/fs"
	"net"
	"syscall"
)

// limitSocket does nothing where a socket has no permissions before it is bound: until they are set they are what the
// umask leaves.
func limitSocket(syscall.RawConn, fs.FileMode) error { return nil }

// isShutDown is for Linux, where accept does not say it.
func isShutDown(*net.UnixListener) bool { return false }
