// Package planted builds the tests of a package with bugs in the code, to see that they are found: a test that cannot fail
// proves nothing.
package planted

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

// Bug is a bug to be put into the code: at one exact place, so that a change of the code that touches it has to say here
// what the bug would be now. Several with one name are one bug.
type Bug struct {
	Name string
	File string // from the directory of the test
	Old  string
	New  string // has BUG where the code is to ask whether the bug is on
}

// helpers are added to each package that gets a bug. later does something a second later.
const helpers = "\n\nimport (\n\t\"os\"\n\t\"time\"\n)\n\nvar plantedBug = os.Getenv(\"PLANTED_BUG\")\n\nfunc isPlanted(bug string) bool { return plantedBug == bug }\n\nfunc later(do func()) { time.AfterFunc(time.Second, do) }\n"

var packageClause = regexp.MustCompile(`(?m)^package \w+$`)

// Build builds the tests of the package in the working directory with all the bugs in the code, each of them off until Run
// names it: one build instead of one for each bug.
func Build(t *testing.T, bugs []Bug) (program string) {
	t.Helper()
	dir := t.TempDir()
	sources := map[string]string{}
	for _, b := range bugs {
		source, ok := sources[b.File]
		if !ok {
			text, err := os.ReadFile(b.File)
			if err != nil {
				t.Fatal(err)
			}
			source = string(text)
			sources[filepath.Join(filepath.Dir(b.File), "planted.go")] = packageClause.FindString(source) + helpers
		}
		if n := strings.Count(source, b.Old); n != 1 {
			t.Fatalf("%s: %d places in %s to plant it, one expected: the code has changed, say what the bug would be now\n%s", b.Name, n, b.File, b.Old)
		}
		sources[b.File] = strings.Replace(source, b.Old, strings.ReplaceAll(b.New, "BUG", `isPlanted("`+b.Name+`")`), 1)
	}
	overlay := struct {
		Replace map[string]string `json:"Replace"`
	}{map[string]string{}}
	for file, source := range sources {
		here, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		there := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(there, []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[here] = there
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, b, 0o600); err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, "planted.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-overlay", list, "-o", program, ".") //nolint:gosec // of a test
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// Run runs a test with one of the bugs, or with none if the name is empty.
func Run(t *testing.T, program, bug, test string, args ...string) (out string, err error) {
	t.Helper()
	// The test's own context ends before its last goroutines do.
	run := exec.CommandContext(context.WithoutCancel(t.Context()), program, append([]string{"-test.run", "^" + test + "$", "-test.timeout", "2m"}, args...)...) //nolint:gosec // of a test
	run.Env = append(os.Environ(), "PLANTED_BUG="+bug)
	b, err := run.CombinedOutput()
	return string(b), err
}
