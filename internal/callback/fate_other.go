//go:build !linux

package callback

import (
	"errors"
	"syscall"
)

const wsaeConnReset = syscall.Errno(10054) // what Windows calls ECONNRESET

// fate returns the callback's fate, by the error alone. before is the number of bytes written when the
// callback began.
func (c *conn) fate(before int64, err error) fate {
	switch {
	case *c.written == before:
		return untouched
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, wsaeConnReset):
		return unread
	default:
		return unknown
	}
}
