//go:build !linux

package bench

import (
	"context"
	"errors"
	"io"
)

var errLinux = errors.New("bench needs Linux: it reads streams with epoll, and figures from /proc")

// Run fails, because bench needs Linux.
func Run(context.Context, Options) (Report, error) { return Report{}, errLinux }

// Work fails too.
func Work(io.Reader, io.Writer) error { return errLinux }
