//go:build !linux

package harness

import "os/exec"

// dieWithParent does nothing: only Linux offers it.
func dieWithParent(*exec.Cmd) {}
