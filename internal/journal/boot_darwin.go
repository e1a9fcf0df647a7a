package journal

import "golang.org/x/sys/unix"

// bootID names this run of the machine; empty: it is not known.
func bootID() string {
	id, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return ""
	}
	return id
}
