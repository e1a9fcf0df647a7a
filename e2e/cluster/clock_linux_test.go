package cluster

import (
	"encoding/json"
	"fmt"
	"go/build"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The wall clock of one process cannot be set from outside: a time namespace moves only the
// monotonic clocks, and a Go program reads the clock through the kernel's vDSO, which cannot
// be intercepted. So the gateways under test are built with a package time whose wall clock
// is stepped by a signal. Everything else, including timers and the monotonic clock, is
// unchanged.

const (
	clockForth = syscall.SIGUSR1
	clockBack  = syscall.SIGUSR2
	clockStep  = time.Hour
)

// overlay writes the changed and added files into dir, and returns the file for
// `go build -overlay` that lists them.
func overlay(dir string) (list string, err error) {
	original := filepath.Join(build.Default.GOROOT, "src", "time", "time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	const read = "\tsec, nsec, mono := runtimeNow()\n"
	changed := strings.Replace(string(source), read, read+"\tsec += StepWall(0)\n", 1)
	if changed == string(source) {
		return "", fmt.Errorf("%s does not read the clock as expected", original)
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return "", err
	}
	step := `package time

import "sync/atomic"

var wallStep atomic.Int64

func StepWall(seconds int64) int64 { return wallStep.Add(seconds) }
`
	listen := fmt.Sprintf(`package main

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func init() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.Signal(%d), syscall.Signal(%d))
	go func() {
		for s := range signals {
			step := int64(%d)
			if s == syscall.Signal(%[2]d) {
				step = -step
			}
			slog.Info("clock stepped", "seconds", time.StepWall(step), "now", time.Now())
		}
	}()
}
`, clockForth, clockBack, clockStep/time.Second)
	replace := map[string]string{}
	for i, file := range []struct{ path, content string }{
		{original, changed},
		{filepath.Join(filepath.Dir(original), "step.go"), step},
		{filepath.Join(root, "cmd", "ssegateway", "step.go"), listen},
	} {
		copied := filepath.Join(dir, fmt.Sprintf("overlay%d.go", i))
		if err := os.WriteFile(copied, []byte(file.content), 0o600); err != nil {
			return "", err
		}
		replace[file.path] = copied
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	list = filepath.Join(dir, "overlay.json")
	return list, os.WriteFile(list, text, 0o600)
}

// buildSteppable compiles the gateway so that its clock can be stepped.
func buildSteppable(dir string) (binary string, err error) {
	list, err := overlay(dir)
	if err != nil {
		return "", err
	}
	binary = filepath.Join(dir, "ssegateway")
	cmd := exec.Command("go", "build", "-overlay", list, "-o", binary, "ssegateway/cmd/ssegateway")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return binary, nil
}
