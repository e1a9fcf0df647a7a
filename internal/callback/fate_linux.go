package callback

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// fate returns the callback's fate, by how the connection ended and how many bytes the backend's host
// acknowledged. before is the number of bytes written when the callback began, err the error
// of its exchange.
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
	// Some backends close in two steps: the first sends a FIN, the second a RST if bytes
	// are left unread.
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
	case info.State != tcpCloseWait && info.State != tcpClose: // no FIN, despite a TLS close_notify
		return unknown
	case info.Bytes_acked <= uint64(before)+1: //nolint:gosec // never negative
		// The FIN acknowledged all bytes that the host had received. (The count includes the SYN.)
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

// skipToEnd reads until the transport ends, and returns the error it ended with. With TLS
// the end follows right after the close_notify; without TLS it has come already.
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
