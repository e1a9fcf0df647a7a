//go:build !unix

package server

// openFilesLimit returns how many descriptors this process may have. This system sets no limit.
func openFilesLimit() int { return 1 << 20 }
