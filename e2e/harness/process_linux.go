package harness

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the kernel kill the process when this process dies.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// ownGroup gives the process and what it starts a group of their own, and returns what kills that.
func ownGroup(cmd *exec.Cmd) (kill func()) {
	cmd.SysProcAttr.Setpgid = true
	return func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
