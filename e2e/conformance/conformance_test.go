package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ssegateway/e2e/harness"
)

var update = flag.Bool("update", false, "write testdata/small.txt anew")

var small string // the program of ./small

func TestMain(m *testing.M) { os.Exit(harness.Main(m, prepare)) }

func prepare(dir string) error {
	small = filepath.Join(dir, "small")
	if out, err := exec.Command("go", "build", "-o", small, "./small").CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// check runs the command, and returns its report.
func check(t *testing.T, want int, args ...string) *report {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), append([]string{"--json"}, args...), &stdout, &stderr); code != want {
		t.Errorf("exit code %d, want %d; standard error:\n%s", code, want, stderr.String())
	}
	r := &report{}
	if err := json.Unmarshal(stdout.Bytes(), r); err != nil {
		t.Fatalf("%v\n%s", err, stdout.String())
	}
	if r.Error != "" {
		t.Errorf("not checked: %s", r.Error)
	}
	return r
}

// What an implementation of a part of the core keeps. The file is written anew by -update.
func TestSmall(t *testing.T) {
	t.Parallel()
	r := check(t, fails, small)
	r.Sections = slices.DeleteFunc(r.Sections, func(s *section) bool { return !s.Core })
	for _, s := range r.Sections {
		for _, c := range s.Cases {
			if c.Result == failed && len(c.Output) == 0 {
				t.Errorf("%s: nothing says what is wrong", c.Name)
			}
			c.Output = nil // which has ports, tokens and times
		}
	}
	var text bytes.Buffer
	if err := r.write(&text); err != nil {
		t.Fatal(err)
	}
	const file = "testdata/small.txt"
	if *update {
		if err := os.WriteFile(file, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	frozen, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(frozen), "\n"), strings.Split(text.String(), "\n")); diff != "" {
		t.Errorf("the report (-frozen +now):\n%s", diff)
	}
}

// A fault is named by the section that it breaks. Without it the same cases pass.
func TestFaults(t *testing.T) {
	t.Parallel()
	for fault, c := range map[string]struct{ cases, section string }{
		"twice":  {"3_lifecycle/client_closed:_the_client_(leaves|resets_the_connection)$", "3 lifecycle"},
		"status": {"4_backend/404_TOKEN_NOT_FOUND:_no_such", "4 backend to gateway"},
		"order":  {"5_bytes/event_line_only", "5 bytes on the wire"},
	} {
		t.Run(fault, func(t *testing.T) {
			if r := check(t, conforms, "--run", c.cases, small); !r.Conforms || r.Passed == 0 || r.Failed > 0 {
				t.Errorf("without the fault: %+v", r)
			}
			r := check(t, fails, "--run", c.cases, small, "-fault", fault)
			var broken []string
			for _, s := range r.Sections {
				if s.Failed > 0 {
					broken = append(broken, s.Title)
				}
			}
			if !slices.Equal(broken, []string{c.section}) || r.Conforms {
				t.Errorf("sections %q are broken, want %q", broken, c.section)
			}
		})
	}
}

// What cannot be run is no implementation that fails.
func TestNotChecked(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"no command":         {},
		"no such program":    {"./nowhere"},
		"it does not start":  {"false"},
		"no such option":     {"--most", "true"},
		"no case":            {"--run", "9_nothing", "true"},
		"no regexp":          {"--run", "(", "true"},
		"no line of a suite": {"--run", "4_backend/no_such_line", "true"},
	} {
		if code := run(t.Context(), args, io.Discard, io.Discard); code != unchecked {
			t.Errorf("%s: exit code %d, want %d", name, code, unchecked)
		}
	}
}
