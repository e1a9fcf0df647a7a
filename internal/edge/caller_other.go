//go:build !linux

package edge

// waitForCaller has nothing to take off on this system.
func waitForCaller(TCP) {}
