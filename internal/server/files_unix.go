//go:build unix

package server

import "syscall"

// openFilesLimit returns how many descriptors this process may have. The runtime raised
// the soft limit to the hard one when the process started.
func openFilesLimit() int {
	const unlimited = 1 << 20
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return unlimited
	}
	return int(min(uint64(limit.Cur), unlimited)) //nolint:unconvert // Cur is signed on FreeBSD
}
