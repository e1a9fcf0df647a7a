package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// longest is when a run that has not ended by itself is ended.
const longest = time.Hour

// figure is what a run of a scenario measured.
type figure struct {
	Figures []string `json:"figures"`
	Date    string   `json:"date"`
	Commit  string   `json:"commit"`
	Seed    uint64   `json:"seed,omitempty"`
	Seconds int      `json:"seconds"`
	Code    string   `json:"code"` // fingerprint
}

// command is what a reader types to run the scenario by hand.
func (s scenario) command() []string {
	command := []string{"go", "test", "-count=1", "-v", "-timeout", "60m"}
	if s.race {
		command = append(command, "-race")
	}
	if s.test != "" {
		command = append(command, "-run", "^("+s.test+")$")
	}
	return append(append(command, s.pkg), s.flags...)
}

// run runs the scenario, and shows what it prints.
func (s scenario) run(ctx context.Context, progress io.Writer) (figure, error) {
	f := figure{Date: time.Now().UTC().Format(time.DateOnly)}
	commit, err := output(ctx, "git", "rev-parse", "--short", "HEAD")
	if err != nil {
		return f, err
	}
	f.Commit = commit
	if changed, err := output(ctx, "git", "status", "--porcelain", "--", "*.go", "go.mod"); err != nil || changed != "" {
		return f, errors.Join(err, errors.New("commit the changes first: a figure belongs to a commit"))
	}
	command := s.command()
	if s.seeded {
		f.Seed = rand.Uint64N(1 << 32)
		command = append(command, "-seed="+strconv.FormatUint(f.Seed, 10))
	}
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	test := exec.CommandContext(ctx, command[0], command[1:]...)
	test.Cancel = func() error { return test.Process.Signal(syscall.SIGINT) }
	test.WaitDelay = 10 * time.Second
	test.Stderr = progress
	out, err := test.StdoutPipe()
	if err != nil {
		return f, err
	}
	began := time.Now()
	if err := test.Start(); err != nil {
		return f, err
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Fprintln(progress, lines.Text())
		if _, text, found := strings.Cut(lines.Text(), "figure: "); found {
			f.Figures = append(f.Figures, text)
		}
	}
	if err := errors.Join(lines.Err(), test.Wait()); err != nil {
		return f, err
	}
	if len(f.Figures) == 0 {
		return f, errors.New("it printed no figure")
	}
	f.Seconds = int(time.Since(began).Round(time.Second).Seconds())
	return f, nil
}

// fingerprint is a digest of all code of this repository that the scenario runs: its test, what that
// imports, the program, and the scenario's flags.
func fingerprint(ctx context.Context, s scenario) (string, error) {
	const each = `{{if not .Standard}}{{with .Module}}{{if .Main}}{{$.Dir}}{{end}}{{end}}{{end}}`
	dirs, err := output(ctx, "go", "list", "-deps", "-test", "-f", each, s.pkg, "./cmd/ssegateway")
	if err != nil {
		return "", err
	}
	home, err := filepath.Abs(s.pkg)
	if err != nil {
		return "", err
	}
	digest := sha256.New()
	unique := slices.Compact(slices.Sorted(slices.Values(strings.Fields(dirs))))
	for _, dir := range unique {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			return "", err
		}
		own := dir == home
		for _, file := range files {
			if !own && strings.HasSuffix(file, "_test.go") {
				continue // a test of another package
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(digest, "%s %d\n", filepath.Base(file), len(text))
			digest.Write(text)
		}
	}
	sums, err := os.ReadFile("go.sum")
	if err != nil {
		return "", err
	}
	digest.Write(sums)
	fmt.Fprintln(digest, strings.Join(s.command(), "\n"))
	return hex.EncodeToString(digest.Sum(nil))[:16], nil
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
