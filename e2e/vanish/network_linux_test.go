package vanish

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

var peers = flag.Int("peers", 3, "how many streams of each kind vanish")

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

// This process has the clients and the backend; the gateway is on a host of its own. The
// backend's link is not the clients'. Addresses are of the range for tests of networks
// (RFC 2544).
const (
	gatewayHost = "gateway"
	clientAddr  = "198.18.0.1"
	publicAddr  = "198.18.0.2"
	backendAddr = "198.18.1.1"
	privateAddr = "198.18.1.2"
)

// newNetwork makes the host and both links. Between the clients and the gateway is a
// bridge, so that the gateway's own link stays up whatever becomes of theirs.
func newNetwork(t *testing.T) {
	t.Helper()
	if noNamespaces != "" {
		t.Skip(noNamespaces)
	}
	for _, arguments := range []string{
		"link set lo up",
		"netns add " + gatewayHost,
		"-n gateway link set lo up",
		"netns add switch",
		"-n switch link add bridge type bridge forward_delay 0",
		"-n switch link set bridge up",
		"link add front type veth peer name clients netns switch",
		"-n gateway link add front type veth peer name gateway netns switch",
		"-n switch link set clients up master bridge",
		"-n switch link set gateway up master bridge",
		"link add back type veth peer name back netns gateway",
		"addr add " + clientAddr + "/24 dev front",
		"addr add " + backendAddr + "/24 dev back",
		"-n gateway addr add " + publicAddr + "/24 dev front",
		"-n gateway addr add " + privateAddr + "/24 dev back",
		"link set front up",
		"link set back up",
		"-n gateway link set front up",
		"-n gateway link set back up",
	} {
		ip(t, arguments)
	}
	t.Cleanup(func() {
		ip(t, "link del front")
		ip(t, "link del back")
		ip(t, "netns del "+gatewayHost)
		ip(t, "netns del switch")
	})
}

// cut takes the clients' port from the bridge: every packet is dropped, in both
// directions, and neither end is told.
func cut(t *testing.T) {
	t.Helper()
	ip(t, "-n switch link set clients nomaster")
}

func ip(t *testing.T, arguments string) {
	t.Helper()
	if out, err := exec.Command(ipCommand(t), strings.Fields(arguments)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", arguments, err, out)
	}
}

// ipCommand looks for it also where only root's PATH leads.
func ipCommand(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"ip", "/usr/sbin/ip", "/sbin/ip"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("ip is not installed: run `make test-deps`")
	return ""
}
