package load

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ssegateway/e2e/harness"
)

// group is a memory cgroup, of version 1 or 2.
type group struct {
	t               *testing.T
	dir             string
	most, peak, oom string // files
}

// newGroup makes a cgroup with that limit until the end of the test. It skips the test where that is not possible.
func newGroup(t *testing.T, limit int64) *group {
	t.Helper()
	const root = "/sys/fs/cgroup"
	if os.Getuid() != 0 {
		t.Skip("a memory cgroup needs root")
	}
	g := &group{t: t, dir: filepath.Join(root, "memory"), most: "memory.limit_in_bytes", peak: "memory.max_usage_in_bytes", oom: "memory.oom_control"}
	if controllers, err := os.ReadFile(filepath.Join(root, "cgroup.controllers")); err == nil {
		if !strings.Contains(string(controllers), "memory") {
			t.Skip("the cgroups here (version 2) have no controller of memory")
		}
		g.dir, g.most, g.peak, g.oom = root, "memory.max", "memory.peak", "memory.events"
		if err := os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+memory"), 0); err != nil {
			t.Skipf("no memory cgroup can be made here: %v", err)
		}
	}
	g.dir = filepath.Join(g.dir, fmt.Sprintf("ssegateway-load-%d", os.Getpid()))
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		t.Skipf("no memory cgroup can be made here: %v", err)
	}
	t.Cleanup(func() { // the kernel may need a moment after its last process
		await(t, harness.Patience, "the cgroup removed", func() bool {
			err := os.Remove(g.dir)
			if err != nil && !errors.Is(err, unix.EBUSY) {
				t.Fatal(err)
			}
			return err == nil
		})
	})
	if err := os.WriteFile(filepath.Join(g.dir, g.most), strconv.AppendInt(nil, limit, 10), 0); err != nil {
		t.Fatal(err)
	}
	return g
}

// command runs its arguments in the group.
func (g *group) command() []string {
	return []string{"/bin/sh", "-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(g.dir, "cgroup.procs")}
}

// number returns the number in a file of the group, or in that line of it which begins with the key.
func (g *group) number(file, key string) int64 {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		g.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if key == "" || len(f) == 2 && f[0] == key {
			n, err := strconv.ParseInt(f[len(f)-1], 10, 64)
			if err != nil {
				g.t.Fatal(err)
			}
			return n
		}
	}
	g.t.Fatalf("%s has no %q: %s", file, key, text)
	return 0
}

// peakBytes is the most that the group has ever had, kernel memory of its sockets included.
func (g *group) peakBytes() int64 { return g.number(g.peak, "") }

// kills is how many processes of the group the kernel has killed for want of memory.
func (g *group) kills() int64 { return g.number(g.oom, "oom_kill") }
