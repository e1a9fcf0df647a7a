package edge

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
)

// Err names the cause that the network gave, in whatever order reads and writes learn of it. That the connection
// was closed here is none.
func TestCause(t *testing.T) {
	closed := &net.OpError{Op: "write", Err: net.ErrClosed}
	reset := &net.OpError{Op: "read", Err: syscall.ECONNRESET}
	for name, test := range map[string]struct {
		errs []error
		want error
	}{
		"none":                               {[]error{nil}, nil},
		"closed here":                        {[]error{closed, nil, closed}, nil},
		"closed here, then an end":           {[]error{closed, io.EOF}, io.EOF},
		"an end, then closed here":           {[]error{io.EOF, closed}, io.EOF},
		"a broken pipe, then its cause":      {[]error{syscall.EPIPE, closed, reset}, syscall.ECONNRESET},
		"a cause, then what follows of it":   {[]error{reset, io.EOF, syscall.EPIPE, closed}, syscall.ECONNRESET},
		"closed here, then a cause, belated": {[]error{closed, reset}, syscall.ECONNRESET},
	} {
		c := new(Conn)
		for _, err := range test.errs {
			c.note(err)
		}
		if got := c.Err(); !errors.Is(got, test.want) || (got == nil) != (test.want == nil) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
