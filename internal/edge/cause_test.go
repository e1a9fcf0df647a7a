package edge

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
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

// failing is a connection whose peer has vanished. The system told a write, which has yet to return.
type failing struct {
	net.Conn

	writing, released chan struct{}
}

func (f failing) SetWriteDeadline(time.Time) error { return nil }

func (f failing) Read([]byte) (int, error) { return 0, io.EOF }

func (f failing) Write([]byte) (int, error) {
	close(f.writing)
	<-f.released
	return 0, syscall.ETIMEDOUT
}

// A write that is under way when a read finds the end may have got the cause. Err waits for it.
func TestCauseOfWriteUnderWay(t *testing.T) {
	f := failing{writing: make(chan struct{}), released: make(chan struct{})}
	c := &Conn{Conn: f}
	var writing sync.WaitGroup
	writing.Go(func() { _, _ = c.Write([]byte("x")) })
	defer writing.Wait()
	<-f.writing
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	found := make(chan error)
	go func() { found <- c.Err() }()
	select {
	case err := <-found:
		close(f.released)
		t.Fatalf("%v before the write has returned", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(f.released)
	if err := <-found; !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("%v, want what the write got", err)
	}
}
