package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
)

// sbom writes the list of all modules that are in the program, with their licences, as CycloneDX.
func (r *release) sbom(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "tool", //nolint:gosec // the paths are the caller's
		"cyclonedx-gomod", "app", "-json", "-licenses", "-noserial", "-notimestamp",
		"-main", "cmd/ssegateway", "-output", filepath.Join(r.out, "ssegateway_"+r.version+"_sbom.cdx.json"), r.root)
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return cmd.Run()
}
