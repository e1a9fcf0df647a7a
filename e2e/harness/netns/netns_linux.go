// Package netns runs the tests of a package in their own network namespaces. It needs root.
package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// inside is the environment variable that marks the process inside the namespaces.
const inside = "SSEGATEWAY_INSIDE_NAMESPACES"

// none is why there are no namespaces; empty: there are.
var none string

// Main runs the tests in their own namespaces for network, processes and mounts. It does not
// return.
func Main(m *testing.M) {
	if os.Getenv(inside) != "" {
		if err := mountOwn(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // the child dies with the thread that started it
	self := exec.Command("/proc/self/exe", os.Args[1:]...)
	self.Env = append(os.Environ(), inside+"=1")
	self.Stdout, self.Stderr = os.Stdout, os.Stderr
	self.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	err := self.Start()
	if errors.Is(err, syscall.EPERM) {
		none = "network namespaces need root: " + err.Error()
		os.Exit(m.Run())
	}
	if err == nil {
		err = self.Wait()
	}
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		os.Exit(max(failed.ExitCode(), 1))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// mountOwn mounts a /proc for this process' own process namespace, and a /run of its own,
// where `ip netns` keeps the names of namespaces.
func mountOwn() error {
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"", "/", "", syscall.MS_REC | syscall.MS_PRIVATE},
		{"proc", "/proc", "proc", 0},
		{"tmpfs", "/run", "tmpfs", 0},
	} {
		if err := syscall.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", m.target, err)
		}
	}
	return nil
}

// Need skips a test if there are no namespaces.
func Need(t *testing.T) {
	t.Helper()
	if none != "" {
		t.Skip(none)
	}
}

// IP runs the ip command.
func IP(t *testing.T, arguments string) {
	t.Helper()
	if out, err := exec.Command(Find(t, "ip"), strings.Fields(arguments)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", arguments, err, out)
	}
}

// On returns the command line that runs a command on a host, that is, in a network namespace.
func On(t *testing.T, host string, command ...string) []string {
	t.Helper()
	return append([]string{Find(t, "ip"), "netns", "exec", host}, command...)
}

// Find returns the path of a program. It also searches the directories that only root's PATH has.
func Find(t *testing.T, program string) (path string) {
	t.Helper()
	for _, name := range []string{program, "/usr/sbin/" + program, "/sbin/" + program} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatalf("%s is not installed: run `make test-deps`", program)
	return ""
}
