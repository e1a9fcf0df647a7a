//go:build !linux

package stream

import "syscall"

func controlListener(_, _ string, _ syscall.RawConn) error { return nil }
