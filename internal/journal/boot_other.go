//go:build !linux && !darwin

package journal

// bootID returns nothing: it is not known here, so every stop that is not clean may have been the machine's.
func bootID() string { return "" }
