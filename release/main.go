// Release builds what a release consists of: static binaries in archives, deb and rpm packages,
// container images, a Helm chart, npm packages, an SBOM and checksums. The same commit gives the same bytes, whoever builds it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// release is what is being built.
type release struct {
	root    string // the project's directory
	out     string // where the files go
	version string // without a leading v
	commit  string
	date    time.Time // of the commit: the time of every file
}

// target is a system that binaries are built for.
type target struct{ os, arch string }

func (t target) String() string { return t.os + "/" + t.arch }

// targets are all systems that have binaries.
var targets = []target{
	{"linux", "amd64"},
	{"linux", "arm64"},
	{"darwin", "amd64"},
	{"darwin", "arm64"},
	{"windows", "amd64"},
	{"windows", "arm64"},
}

func main() {
	root := flag.String("root", "..", "the project's `directory`")
	out := flag.String("out", "../dist", "the `directory` for the files; it is emptied first")
	only := flag.String("only", "", "build for this `os/arch` alone")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *root, *out, *only)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, root, out, only string) error {
	r, err := newRelease(ctx, root, out)
	if err != nil {
		return err
	}
	chosen := targets
	if only != "" {
		if chosen, err = choose(only); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	work := filepath.Join(r.out, "binaries")
	images := []builtImage{}
	for _, t := range chosen {
		binary, err := r.build(ctx, work, t)
		if err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
		if err := r.archive(binary, t); err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
		if err := r.npmProgram(binary, t); err != nil {
			return fmt.Errorf("npm package for %v: %w", t, err)
		}
		if t.os == "linux" {
			if err := r.packages(ctx, binary, t); err != nil {
				return fmt.Errorf("packages for %v: %w", t, err)
			}
			images = append(images, builtImage{t, binary})
		}
	}
	if len(images) > 0 {
		if err := r.images(images); err != nil {
			return fmt.Errorf("image: %w", err)
		}
	}
	if err := r.chart(); err != nil {
		return fmt.Errorf("chart: %w", err)
	}
	if err := r.npm(); err != nil {
		return fmt.Errorf("npm package: %w", err)
	}
	if err := r.sbom(ctx); err != nil {
		return fmt.Errorf("SBOM: %w", err)
	}
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	return r.checksums()
}

// newRelease reads the version, the commit and its time from git.
func newRelease(ctx context.Context, root, out string) (*release, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if out, err = filepath.Abs(out); err != nil {
		return nil, err
	}
	r := &release{root: root, out: out}
	version, err := r.git(ctx, "describe", "--tags", "--always", "--dirty")
	if err != nil {
		return nil, err
	}
	r.version = strings.TrimPrefix(version, "v")
	if strings.HasSuffix(version, "-dirty") {
		fmt.Fprintln(os.Stderr, "release: there are changes that are not committed; nobody else can build this")
	}
	if !strings.Contains(version, ".") { // there is no tag yet
		r.version = "0.0.0-" + version
	}
	if r.commit, err = r.git(ctx, "rev-parse", "HEAD"); err != nil {
		return nil, err
	}
	text, err := r.git(ctx, "log", "-1", "--format=%ct")
	if err != nil {
		return nil, err
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	r.date = time.Unix(seconds, 0).UTC()
	return r, err
}

func (r *release) git(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...) //nolint:gosec // constant arguments
	cmd.Dir, cmd.Stderr = r.root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

// choose returns the target with that name.
func choose(name string) ([]target, error) {
	for _, t := range targets {
		if t.String() == name {
			return []target{t}, nil
		}
	}
	return nil, errors.New("-only: there is no target " + strconv.Quote(name))
}

// build builds the program for a target and returns the path of the binary.
func (r *release) build(ctx context.Context, dir string, t target) (binary string, err error) {
	binary = filepath.Join(dir, t.os+"_"+t.arch, "ssegateway")
	if t.os == "windows" {
		binary += ".exe"
	}
	cmd := exec.CommandContext(ctx, "go", "build", //nolint:gosec // the paths are the caller's
		"-trimpath", "-buildvcs=false", "-o", binary,
		"-ldflags", "-s -w -buildid= -X main.version=v"+r.version+" -X main.commit="+r.commit, "./cmd/ssegateway")
	cmd.Dir, cmd.Stdout, cmd.Stderr = r.root, os.Stderr, os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+t.os, "GOARCH="+t.arch, "GOFLAGS=", "GOAMD64=v1", "GOARM64=v8.0")
	return binary, cmd.Run()
}
