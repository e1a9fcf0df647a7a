//go:build !unix

package server

// openFilesLimit is how many descriptors this process may have; here the system sets no limit.
func openFilesLimit() int { return 1 << 20 }
