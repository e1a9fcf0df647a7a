package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// thisMachine describes this machine.
func thisMachine() (m Machine, err error) {
	m.Cores = runtime.NumCPU()
	if m.CPU, err = fieldOf("/proc/cpuinfo", "model name"); err != nil {
		return m, err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return m, err
	}
	m.MemoryBytes = int64(info.Totalram) * int64(info.Unit)
	m.Load = float64(info.Loads[0]) / (1 << 16)
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return m, err
	}
	m.Kernel = unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:])
	return m, nil
}

// fieldOf returns the first value of that name in a file of lines such as "name : value".
func fieldOf(path, name string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if n, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(n) == name {
			return strings.TrimSpace(value), nil
		}
	}
	return "unknown", nil
}

// programs returns the versions of all programs that are measured or used.
func (o *options) programs(ctx context.Context) (programs []Program, err error) {
	commit, err := output(ctx, "git", "describe", "--always", "--dirty")
	if err != nil {
		commit = "unknown" // not a git clone
	}
	programs = []Program{{ours, "commit " + commit}, {"Go", strings.TrimPrefix(runtime.Version(), "go")}}
	var packages []string
	for _, s := range o.chosenServers() {
		switch {
		case !s.packages:
		case s.origin:
			packages = append(packages, "pushpin", "condure", "zurl")
		case len(packages) == 0 || packages[0] != "nginx":
			packages = append([]string{"nginx", "libnginx-mod-nchan"}, packages...)
		}
	}
	for _, name := range packages {
		version, err := output(ctx, "dpkg-query", "-W", "-f", "${Version}", name)
		if err != nil {
			version = "unknown" // installed by other means
		}
		programs = append(programs, Program{name, version})
	}
	return programs, nil
}

// output runs a command and returns its output.
func output(ctx context.Context, name string, args ...string) (string, error) {
	text, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return string(bytes.TrimSpace(text)), nil
}
