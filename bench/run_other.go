//go:build !linux

package bench

import (
	"context"
	"errors"
	"io"
)

var errLinux = errors.New("bench needs Linux: it reads streams with epoll, and figures from /proc")

// Run says that it cannot be done here.
func Run(context.Context, Options) (Report, error) { return Report{}, errLinux }

// Work says the same.
func Work(io.Reader, io.Writer) error { return errLinux }
