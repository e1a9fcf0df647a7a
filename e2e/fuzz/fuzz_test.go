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
	each    = flag.Duration("each", time.Second, "for how long each target is fuzzed")
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
	if err != nil {
		return 0, 0, fmt.Errorf("%w\n%s", err, out)
	}
	said := progress.FindAllSubmatch(out, -1)
	if len(said) == 0 || !bytes.Contains(out, []byte("\nPASS")) {
		return 0, 0, fmt.Errorf("it was not fuzzed:\n%s", out)
	}
	last := said[len(said)-1]
	executions, _ = strconv.Atoi(string(last[1]))
	inputs, _ = strconv.Atoi(string(last[2]))
	return executions, inputs, nil
}

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
