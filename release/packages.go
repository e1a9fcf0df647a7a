package main

import (
	"context"
	"os"
	"os/exec"
	"strconv"
)

// packages writes the deb and the rpm of a binary for Linux.
func (r *release) packages(ctx context.Context, binary string, t target) error {
	for _, format := range []string{"deb", "rpm"} {
		cmd := exec.CommandContext(ctx, "go", "tool", "-modfile=release/go.mod", "nfpm", "package", //nolint:gosec // the paths are the caller's
			"--config", "deploy/package/nfpm.yaml", "--packager", format, "--target", r.out)
		cmd.Dir, cmd.Stderr = r.root, os.Stderr
		cmd.Env = append(os.Environ(), "ARCH="+t.arch, "VERSION="+r.version, "BINARY="+binary, "SOURCE_DATE_EPOCH="+strconv.FormatInt(r.date.Unix(), 10))
		if err := cmd.Run(); err != nil {
			return err
		}
	}
	return nil
}
