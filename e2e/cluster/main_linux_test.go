package cluster

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// How large a run is. The defaults are for every change; `make chaos` asks for more.
var (
	faults  = flag.Int("faults", 8, "how many faults TestChaos makes")
	longest = flag.Duration("longest", 4*time.Second, "the longest fault; the shortest takes 1 s")
	clients = flag.Int("clients", 300, "how many clients there are")
	lease   = flag.Int("lease", 3, "NODE_LEASE_SECONDS")
	drain   = flag.Int("drain", 6, "DRAIN_SECONDS")
	seed    = flag.Uint64("seed", uint64(time.Now().UnixNano()), "decides which faults there are; printed")
	strict  = flag.Bool("strict", false, "hold the bounds that an otherwise idle machine has to hold")
	only    = flag.String("only", "", "the only kind of fault there is")
)

// insideNamespaces is set, in the environment, for the process that runs the tests.
const insideNamespaces = "SSEGATEWAY_INSIDE_NAMESPACES"

// noNamespaces says why there are none; empty: there are.
var noNamespaces string

// TestMain runs the tests in namespaces of their own for the network, processes and mounts.
func TestMain(m *testing.M) {
	if os.Getenv(insideNamespaces) != "" {
		if err := mountOwn(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // the child dies with the thread that started it
	self := exec.Command("/proc/self/exe", os.Args[1:]...)
	self.Env = append(os.Environ(), insideNamespaces+"=1")
	self.Stdout, self.Stderr = os.Stdout, os.Stderr
	self.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	err := self.Start()
	if errors.Is(err, syscall.EPERM) {
		noNamespaces = "network namespaces need root: " + err.Error()
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

// mountOwn gives this process its own /proc, as its process namespace needs, and its
// own /run, where `ip netns` keeps its names.
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
