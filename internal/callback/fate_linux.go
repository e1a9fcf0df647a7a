package callback

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// fate goes by how the connection ended, and asks the kernel how much of what was written
// the other host acknowledged. before is what had been written when the callback began,
// err how its exchange failed.
func (c *conn) fate(before int64, err error) fate {
	if *c.written == before {
		return untouched
	}
	if c.sys == nil {
		return unknown
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		err = c.skipToEnd()
	}
	if errors.Is(err, syscall.ECONNRESET) {
		return unread
	}
	f := c.fateAfterFIN(before)
	if f != unknown || !c.reused {
		return f
	}
	// Some close in two steps, of which the first sends a FIN and the second, if bytes
	// are left unread, a RST.
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(endWait); f == unknown && time.Now().Before(end); f = c.fateAfterFIN(before) {
		<-tick.C
	}
	return f
}

func (c *conn) fateAfterFIN(before int64) fate {
	var info *unix.TCPInfo
	var err error
	if e := c.sys.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}); e != nil || err != nil {
		return unknown
	}
	switch {
	case info.State != tcpCloseWait && info.State != tcpClose: // no FIN, in spite of a farewell
		return unknown
	case info.Bytes_acked <= uint64(before)+1: //nolint:gosec // never negative
		// The FIN acknowledged all that its host had received. (The count includes the SYN.)
		return untouched
	case info.State == tcpClose:
		return unread
	default:
		return unknown
	}
}

// States in <netinet/tcp.h>: after a FIN, and after a RST.
const (
	tcpCloseWait = 8
	tcpClose     = 7
)

// skipToEnd reads until the transport ends, and returns how. TLS says farewell by a
// message of its own, and the end comes right behind it; without TLS it has come already.
func (c *conn) skipToEnd() error {
	if err := c.raw.SetReadDeadline(time.Now().Add(endWait)); err != nil {
		return err
	}
	var b [512]byte
	for {
		if _, err := c.raw.Read(b[:]); err != nil {
			return err
		}
	}
}
