package fuzz

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

var (
	only    = flag.String("targets", "^sse FuzzDecoder$", "which fuzz targets: a regular expression for \"package name\"; all others are only compiled by their packages' tests")
	part    = flag.String("part", "1/1", "which part of those, for runs that end within an hour: `number/parts`")
	each    = flag.Duration("each", 5*time.Second, "for how long each target is fuzzed")
	workers = flag.Int("workers", 2, "how many targets are fuzzed at a time, each with one worker")
)

// target is a function of a package.
type target struct{ pkg, name string }

func (x target) String() string { return x.pkg + " " + x.name }

// module is the folder of the module.
const module = "../.."

var function = regexp.MustCompile(`(?m)^func (Fuzz\w*)\(`)

// targets returns all fuzz targets of the module, as its source has them.
func targets(t *testing.T) (all []target) {
	t.Helper()
	err := filepath.WalkDir(module, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		for _, name := range function.FindAllSubmatch(text, -1) {
			all = append(all, target{filepath.Dir(path)[len(module)+1:], string(name[1])})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(all, func(a, b target) int { return strings.Compare(a.String(), b.String()) })
	return all
}

// chosen returns the targets of this run.
func chosen(t *testing.T) (run []target) {
	t.Helper()
	pattern, err := regexp.Compile(*only)
	if err != nil {
		t.Fatal(err)
	}
	var number, parts int
	if _, err := fmt.Sscanf(*part, "%d/%d", &number, &parts); err != nil || number < 1 || number > parts {
		t.Fatalf("-part=%s: want a number and the number of all, as in 2/4", *part)
	}
	matching := slices.DeleteFunc(targets(t), func(x target) bool { return !pattern.MatchString(x.String()) })
	for i, x := range matching {
		if i%parts == number-1 {
			run = append(run, x)
		}
	}
	if len(run) == 0 {
		t.Fatalf("no fuzz target matches -targets=%s -part=%s", *only, *part)
	}
	return run
}

// progress is what the go command prints of a running target.
var progress = regexp.MustCompile(`execs: (\d+) .*new interesting: (\d+)`)

// fuzz fuzzes a target. What makes it fail is kept in its package's testdata, and what
// covers more code in the go command's cache.
func (x target) fuzz(ctx context.Context) (executions, inputs int, err error) {
	run := exec.CommandContext(ctx, "go", "test", "-run=^$", "-fuzz=^"+x.name+"$", "-fuzztime="+each.String(), "-parallel=1", "./"+x.pkg)
	run.Dir = module
	run.WaitDelay = 10 * time.Second
	out, err := run.CombinedOutput()
	if err != nil && !isOver(out) {
		return 0, 0, fmt.Errorf("%w\n%s", err, out)
	}
	said := progress.FindAllSubmatch(out, -1)
	if len(said) == 0 || err == nil && !bytes.Contains(out, []byte("\nPASS")) {
		return 0, 0, fmt.Errorf("it was not fuzzed:\n%s", out)
	}
	last := said[len(said)-1]
	executions, _ = strconv.Atoi(string(last[1]))
	inputs, _ = strconv.Atoi(string(last[2]))
	return executions, inputs, nil
}

// isOver reports whether nothing failed but the end of the time itself: before Go 1.27 the go command sometimes takes that
// for a failure (golang.org/issue/75804). A failure of the target has an input, or words of its own.
func isOver(out []byte) bool { return over.Match(out) && !bytes.Contains(out, []byte("Failing input")) }

var over = regexp.MustCompile(`(?m)^--- FAIL: \w+ \([\d.]+s\)\n    context deadline exceeded\nFAIL\n`)

// TestFuzz: no input of any length and content makes a parser crash, hang, or say what is not so.
func TestFuzz(t *testing.T) {
	run := chosen(t)
	var (
		mu                 sync.Mutex
		executions, inputs int
		fuzzing            sync.WaitGroup
		todo               = make(chan target)
	)
	for range *workers {
		fuzzing.Go(func() {
			for x := range todo {
				n, more, err := x.fuzz(t.Context())
				if err != nil {
					t.Errorf("%s: %v", x, err)
				} else {
					t.Logf("%s: %d executions, %d inputs that cover more", x, n, more)
				}
				mu.Lock()
				executions, inputs = executions+n, inputs+more
				mu.Unlock()
			}
		})
	}
	for _, x := range run {
		todo <- x
	}
	close(todo)
	fuzzing.Wait()
	if executions < len(run) {
		t.Errorf("%d executions of %d targets", executions, len(run))
	}
	if !t.Failed() {
		harness.Figure(t, "%d targets, %v each: %d executions, %d new inputs, 0 crashes", len(run), *each, executions, inputs)
	}
}

// The end of the time is no failure, and an input that fails is one.
func TestIsOver(t *testing.T) {
	for out, want := range map[string]bool{
		"fuzz: elapsed: 10m1s, execs: 758658 (0/sec), new interesting: 5 (total: 79)\n--- FAIL: FuzzX (600.86s)\n    context deadline exceeded\nFAIL\nexit status 1\n":              true,
		"--- FAIL: FuzzX (41.72s)\n    --- FAIL: FuzzX (0.00s)\n        x_test.go:70: context deadline exceeded\n    \n    Failing input written to testdata/fuzz/FuzzX/b7\nFAIL\n": false,
		"--- FAIL: FuzzX (3.00s)\n    fuzzing process hung or terminated unexpectedly: exit status 2\nFAIL\n":                                                                       false,
	} {
		if isOver([]byte(out)) != want {
			t.Errorf("%q", out)
		}
	}
}
