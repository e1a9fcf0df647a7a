package server

import (
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// limitSocket sets the most that the permissions of a socket will be when it is bound: there is no moment in
// which more callers may connect.
func limitSocket(c syscall.RawConn, mode fs.FileMode) error {
	var err error
	if e := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), uint32(mode.Perm())) }); e != nil {
		return e
	}
	return nameSetting("INTERNAL_SOCKET_MODE", err)
}
