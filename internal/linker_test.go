package internal_test

import (
	"bufio"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Nothing in the program calls a method by a name that only the running program knows, as text/template does. Where
// something does, the linker keeps every exported method of every type: that was a fifth of the binary.
func TestLinkerDropsMethods(t *testing.T) {
	dir := t.TempDir()
	build := func(name string, flags ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "go", slices.Concat([]string{"build", "-trimpath", "-o", filepath.Join(dir, name)}, flags, []string{"./cmd/ssegateway"})...)
		cmd.Dir = ".."
		cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
		return cmd
	}
	quietly := func() {
		if out, err := build("program", "-ldflags=-s -w").CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("go build says %.200q: %v", out, err)
		}
	}
	quietly()
	defer quietly()
	// The go command keeps what the linker says with the compiled main package, and says it again when a program is up
	// to date. With a flag of its own, which changes nothing, the package is another one.
	cmd := build("dumped", "-ldflags=-dumpdep", "-gcflags=ssegateway/cmd/ssegateway=-e")
	dump, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// A line is "from -> to", or "from <marks> -> to <marks>".
	callers := map[string]string{} // the first one of each
	marked, culprit := false, ""
	lines := bufio.NewScanner(dump)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		from, to, _ := strings.Cut(lines.Text(), " -> ")
		from, _, _ = strings.Cut(from, " <")
		to, marks, _ := strings.Cut(to, " <")
		if _, known := callers[to]; !known {
			callers[to] = from
		}
		marked = marked || strings.Contains(marks, "UsedInIface")
		if culprit == "" && strings.Contains(marks, "ReflectMethod") {
			culprit = to
		}
	}
	if err := cmd.Wait(); err != nil || lines.Err() != nil || !marked {
		t.Fatalf("no dump of the linker with marks: %v, %v", err, lines.Err())
	}
	if culprit != "" {
		way := culprit
		for from := callers[culprit]; from != "" && len(way) < 10_000; from = callers[from] {
			way = from + "\n" + way
		}
		t.Errorf("a method is called by name:\n%s", way)
	}
}
