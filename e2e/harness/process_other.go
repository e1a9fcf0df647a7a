//go:build !linux

package harness

import "os/exec"

// dieWithParent does nothing, because only Linux supports it.
func dieWithParent(*exec.Cmd) {}

// ownGroup does nothing, as the tests of such commands run on Linux.
func ownGroup(*exec.Cmd) (kill func()) { return func() {} }
